"""Who an actor is: the forms of a handle, and the root actors that can be named by their key alone."""

from __future__ import annotations

import pytest

from dms.actor.handle import NOBODY, ROOT_INBOX, Address, Handle, handle_of_did, handle_of_peer, protocol_of
from dms.identity.ids import DID, ActorID, did_of, peer_id_of
from dms.testing.actors import key_of
from dms.types import gojson
from dms.types.errors import DMSError
from dms.types.ids import PeerID

KEY = key_of("a").public
PEER = peer_id_of(KEY)
ROOT = Handle(id=ActorID.of(KEY), did=did_of(KEY), addr=Address(host=PEER, inbox=ROOT_INBOX))


def test_the_root_actor_of_a_node_follows_from_its_peer_id_or_its_did() -> None:
    assert handle_of_peer(PEER) == handle_of_did(did_of(KEY)) == ROOT


@pytest.mark.parametrize("peer", ["", "x", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"])
def test_a_peer_id_without_a_key_names_nobody(peer: str) -> None:
    with pytest.raises(DMSError):
        handle_of_peer(PeerID(peer))


@pytest.mark.parametrize("did", ["", "did:prism:abc", "did:key:z"])
def test_a_did_that_is_no_key_names_nobody(did: str) -> None:
    with pytest.raises(DMSError):
        handle_of_did(DID(uri=did))


def test_the_display_form() -> None:
    other = Handle(id=ActorID.of(key_of("child").public), did=ROOT.did, addr=Address(host=PEER, inbox="child"))
    assert str(other) == f"{did_of(key_of('child').public)}[{ROOT.did}]@{PEER}:child"
    assert str(NOBODY) == "[]@:"


def test_nobody_is_false_and_anybody_true() -> None:
    assert not NOBODY
    for one in (
        Handle(id=ROOT.id, did=DID(), addr=Address()),
        Handle(id=ActorID(pub=""), did=ROOT.did, addr=Address()),
        Handle(id=ActorID(pub=""), did=DID(), addr=Address(host=PEER)),
        Handle(id=ActorID(pub=""), did=DID(), addr=Address(inbox="x")),
    ):
        assert one


def test_the_wire_form() -> None:
    assert gojson.encode(NOBODY) == b'{"id":{"pub":""},"did":{},"addr":{}}'
    text = gojson.encode(ROOT)
    assert text.startswith(b'{"id":{"pub":"')
    assert text.endswith(b'"addr":{"host":"%b","inbox":"root"}}' % PEER.encode())
    assert gojson.decode(text, Handle) == ROOT


def test_the_protocol_of_an_inbox_has_no_leading_slash() -> None:
    assert protocol_of("root") == "actor/root/messages/0.0.1"
