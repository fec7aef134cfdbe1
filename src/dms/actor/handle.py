"""Who an actor is and where its messages go (``spec/security.md`` 5.1, 5.2)."""

from __future__ import annotations

from dms.identity.ids import DID, ActorID, did_of, peer_id_of, public_key_of_did, public_key_of_peer
from dms.types.gojson import Wire
from dms.types.ids import PeerID

ROOT_INBOX = "root"


class Address(Wire):
    """A host (peer id) and an inbox on it."""

    host: PeerID = PeerID("")
    inbox: str = ""


class Handle(Wire):
    """An actor: the key that signs its messages, the identity that it acts for, and its address."""

    id: ActorID
    did: DID
    addr: Address

    def __str__(self) -> str:
        """The display form; there is no parser for it."""
        own = did_of(self.id.public_key()) if self.id else ""
        return f"{own}[{self.did}]@{self.addr.host}:{self.addr.inbox}"

    def __bool__(self) -> bool:
        """Whether it names anybody."""
        return bool(self.id) or bool(self.did) or bool(self.addr.host) or bool(self.addr.inbox)


NOBODY = Handle(id=ActorID(pub=""), did=DID(), addr=Address())
"""The recipient of a broadcast."""


def handle_of_peer(peer: PeerID) -> Handle:
    """The root actor of a node, from its peer id.

    :raises DMSError: the peer id does not contain its key.
    """
    key = public_key_of_peer(peer)
    return Handle(id=ActorID.of(key), did=did_of(key), addr=Address(host=peer, inbox=ROOT_INBOX))


def handle_of_did(did: DID) -> Handle:
    """The root actor of a node whose DID is the did:key of its own key.

    :raises DMSError: the DID is of another method.
    """
    key = public_key_of_did(did)
    return Handle(id=ActorID.of(key), did=did, addr=Address(host=peer_id_of(key), inbox=ROOT_INBOX))


def protocol_of(inbox: str) -> str:
    """The stream protocol on which an inbox receives (``spec/security.md`` 5.5; no leading slash)."""
    return f"actor/{inbox}/messages/0.0.1"
