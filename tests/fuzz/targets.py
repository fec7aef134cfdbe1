"""What is fuzzed: everything that turns foreign bytes into something that the program believes.

A target takes bytes and says in a few words what came of them; the words tell the runner whether an input led
somewhere new. It fails by an assertion, or by any error that is not one of ours. Two things hold for all of them: what was
read and written again reads as the same, and nothing verifies that was not signed in just this meaning.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import guest_targets, network_targets, seeds, subnet_targets

from dms.actor.envelope import Envelope, decode_envelope
from dms.actor.errors import ActorError
from dms.actor.handle import Handle
from dms.actor.replay_file import open_window
from dms.capability.context import CapabilityContext
from dms.capability.store import load_context, save_context
from dms.capability.token import Token, TokenList, decode_token, decode_token_list, encode_token_list
from dms.capability.verification import verify
from dms.identity import cbor
from dms.identity.cardano import public_key_from
from dms.identity.ids import DID, ActorID, did_of, peer_id_of, public_key_of_did, public_key_of_peer
from dms.identity.keys import KeyType, PublicKey, private_key_from_protobuf, public_key_from_protobuf
from dms.identity.keystore import Keystore
from dms.identity.prism.document import key_of_document
from dms.identity.trust import Provider, TrustContext
from dms.testing.parties import NOW_NS
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError
from dms.types.ids import Capability, PeerID

MAX_CAUSE_WORDS = 12


@dataclass(frozen=True)
class Target:
    """One decoder: good inputs to start from, and what is checked of every other."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    check: Callable[[bytes], str]

    def outcome(self, data: bytes) -> str:
        """What came of ``data``; whatever else is raised is a finding."""
        try:
            return self.check(data)
        except DMSError as exc:
            return f"{exc.code}: {_cause(exc.message)}"


def _cause(message: str) -> str:
    """An error message without what differs from input to input."""
    words = re.sub(r"['\"$].*", "", message, flags=re.DOTALL).split()
    return " ".join(word if re.fullmatch(r"[A-Za-z_]{1,14}[,:;]?", word) else "…" for word in words[:MAX_CAUSE_WORDS])


# tokens ------------------------------------------------------------------------------------------------------------


@functools.cache
def _signed_tokens() -> frozenset[bytes]:
    """What the issuers of the seeds did sign."""
    return frozenset(level.signed_bytes() for token in seeds.tokens() for level in token.levels)


_TRUST = TrustContext()


def _check_verification(token: Token) -> str:
    """Nobody but the issuer makes a token valid; and that something was verified before changes no answer."""
    words = []
    for trust in (_TRUST, TrustContext()):
        try:
            verify(token, trust, NOW_NS)
        except DMSError as exc:
            words.append(f"{exc.code}: {_cause(exc.message)}")
        else:
            words.append(f"valid, {len(token.levels)} levels")
            unsigned = [level for level in token.levels if level.signed_bytes() not in _signed_tokens()]
            assert not unsigned, f"valid, but nobody signed {unsigned}"
    assert words[0] == words[1], words
    return words[0]


def check_token(data: bytes) -> str:
    token = decode_token(data)
    again = decode_token(token.json)
    assert again == token
    assert again.json == token.json == gojson.encode(token)
    return _check_verification(token)


def check_token_list(data: bytes) -> str:
    tokens = decode_token_list(data)
    written = encode_token_list(tokens) if all(t is not None and t.is_well_formed for t in tokens.tok) else b""
    if written and len(written) <= 16384:
        assert decode_token_list(written) == tokens
    context = _context()
    sender = ActorID.of(seeds.MEMBER.key.public)
    carried = context.consume(seeds.MEMBER.did, data, sender=sender)
    decisions = []
    for cap in ("/public/note", "/dms/node/secret"):
        decision = context.decide(context.did, sender, seeds.NODE.id, [Capability(cap)], origin=seeds.MEMBER.did)
        gojson.encode(decision.as_data())
        decisions.append(decision)
    assert not decisions[1].allowed
    if decisions[0].allowed:
        assert decisions[0].token is not None
        assert all(level.signed_bytes() in _signed_tokens() for level in decisions[0].token.levels)
    context.discard(carried)
    assert context.ephemeral_count == 0
    return str(decisions[0].rule)


def _context() -> CapabilityContext:
    context = CapabilityContext("node", seeds.NODE.did, TrustContext(), clock_ns=lambda: NOW_NS)
    context.add_roots(require=TokenList.of(seeds.acceptance()))
    return context


def check_context_file(data: bytes) -> str:
    trust = TrustContext(Provider.of_key(seeds.NODE.key))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "dms.cap"
        path.write_bytes(data)
        context = load_context(path, trust, clock_ns=lambda: NOW_NS)
        roots, *lists = context.list_roots()
        for token in (token for tokens in lists for token in tokens.tokens):
            unsigned = [level for level in token.levels if level.signed_bytes() not in _signed_tokens()]
            assert not unsigned, f"taken from a file, but nobody signed {unsigned}"
        problems = len(context.load_problems)
        save_context(context, path)
        again = load_context(path, trust, clock_ns=lambda: NOW_NS)
        assert not again.load_problems
        assert again.list_roots() == (roots, *lists)
    return f"{min(len(roots), 3)} roots, {[min(len(tokens), 3) for tokens in lists]}, {min(problems, 3)} problems"


# messages ----------------------------------------------------------------------------------------------------------


@functools.cache
def _signed_envelopes() -> frozenset[bytes]:
    return frozenset(decode_envelope(data).signed_bytes() for data in seeds.envelopes())


def check_envelope(data: bytes) -> str:
    envelope = decode_envelope(data)
    written = envelope.encode()
    again = decode_envelope(written)
    assert again == envelope
    assert again.encode() == written
    assert isinstance(str(envelope.is_broadcast), str)
    try:
        envelope.verify(NOW_NS)
    except ActorError as exc:
        return f"{exc.code}: {_cause(exc.message)}"
    assert envelope.signed_bytes() in _signed_envelopes(), "valid, but nobody signed it"
    payload = gojson.decode(envelope.msg or b"null", Any)
    return f"valid with {type(payload).__name__}"


def check_replay_file(data: bytes) -> str:
    """Damage costs what was remembered, never the start of the node."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "replay"
        path.write_bytes(data)
        file = open_window(path, clock_ns=lambda: NOW_NS, elapsed_ns=0)
        entries = sorted(file.window.entries())
        file.close()
        again = open_window(path, clock_ns=lambda: NOW_NS, elapsed_ns=0)
        again.close()
        assert sorted(again.window.entries()) == entries
    return f"{min(len(entries), 3)} entries"


def check_handle(data: bytes) -> str:
    handle = gojson.decode(data, Handle)
    assert gojson.decode(gojson.encode(handle), Handle) == handle
    return f"handle {bool(handle)} {bool(str(handle))}"


def check_json(data: bytes) -> str:
    value = gojson.parse(data)
    written = gojson.encode(gojson.parse(gojson.encode(value)))  # a second time, because -0 becomes 0
    assert _alike(gojson.parse(written), value)
    assert gojson.encode(gojson.parse(written)) == written
    words = [type(value).__name__]
    for type_ in (Envelope, Token, Handle):
        try:
            decoded = gojson.decode(data, type_)
        except BadJSON:
            words.append("-")
            continue
        text = gojson.encode(decoded)
        assert gojson.decode(text, type_) == decoded
        assert gojson.encode(gojson.decode(b" " + text, type_)) == text
        words.append(type_.__name__)
    return " ".join(words)


def _alike(again: Any, value: Any) -> bool:
    """Equality of JSON where a float was written: without a fraction it comes back as an integer, in its shortest digits."""
    if isinstance(value, dict):
        return (
            isinstance(again, dict) and value.keys() == again.keys() and all(_alike(again[k], value[k]) for k in value)
        )
    if isinstance(value, list):
        return isinstance(again, list) and len(again) == len(value) and all(map(_alike, again, value))
    return bool((float(again) if isinstance(value, float) else again) == value)


# names and keys ----------------------------------------------------------------------------------------------------


def check_name(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    words = []
    for kind, read in (("did", _did_again), ("peer", _peer_again), ("id", _id_again)):
        try:
            again = read(text)
        except DMSError as exc:
            words.append(f"{exc.code}: {_cause(exc.message)}")
            continue
        assert again == text, f"two texts for one {kind}"
        words.append(kind)
    return ", ".join(words)


def _did_again(text: str) -> str:
    return did_of(public_key_of_did(DID.parse(text))).uri


def _peer_again(text: str) -> str:
    return peer_id_of(public_key_of_peer(PeerID(text)))


def _id_again(text: str) -> str:
    return ActorID.of(ActorID(pub=text).public_key()).pub


def check_key(data: bytes) -> str:
    words = []
    try:
        public = public_key_from_protobuf(data)
        assert public.to_protobuf() == data
        words.append(public.type.name)
    except DMSError as exc:
        words.append(_cause(exc.message))
    try:
        private = private_key_from_protobuf(data)
        assert private_key_from_protobuf(private.to_protobuf()) == private
        words.append(f"private {private.type.name}")
    except DMSError as exc:
        words.append(_cause(exc.message))
    return ", ".join(words)


def check_key_file(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "key.json").write_bytes(data)
        key = Keystore(Path(directory)).get("key", seeds.PASSPHRASE)
    assert key in seeds.stored_keys(), "a key that nobody stored"
    return f"opened {key.type.name}"


def check_did_document(data: bytes) -> str:
    key = key_of_document(data, seeds.PRISM_DID)
    assert key.type in (KeyType.ED25519, KeyType.SECP256K1)
    return key.type.name


def check_signature(data: bytes) -> str:
    """One message and the keys of all kinds; the input is the signature."""
    words = []
    for key in seeds.public_keys():
        if key.verify(seeds.MESSAGE, data):
            words.append(key.type.name)
            assert _core(key, data) in seeds.signature_cores(), "nobody made this signature"
    return " ".join(words) or "fits nobody"


def _core(key: PublicKey, data: bytes) -> bytes:
    """Of a signature what the signer chose; a wallet's carries a payload beside it, which does not count."""
    if key.type is KeyType.ED25519:
        return data
    if key.type is not KeyType.CARDANO:
        return seeds.ecdsa_core(data)
    parts = cbor.decode(data)
    assert isinstance(parts, list)
    protected, inner = parts[0], parts[3]
    assert isinstance(protected, bytes)
    assert isinstance(inner, bytes)
    return protected + inner


def check_cbor(data: bytes) -> str:
    value = cbor.decode(data)
    assert cbor.encode(value) == data, "a second form of one value"
    return type(value).__name__


def check_cose_key(data: bytes) -> str:
    raw = public_key_from(data)
    return f"{len(raw)} bytes from {'bytes' if raw == data else 'COSE'}"


TARGETS = {
    target.name: target
    for target in (
        Target("token", seeds.token_texts, check_token),
        Target("token-list", seeds.token_lists, check_token_list),
        Target("context-file", seeds.context_files, check_context_file),
        Target("envelope", seeds.envelopes, check_envelope),
        Target("replay-file", seeds.replay_files, check_replay_file),
        Target("handle", seeds.handles, check_handle),
        Target("json", seeds.json_texts, check_json),
        Target("name", seeds.names, check_name),
        Target("key", seeds.keys, check_key),
        Target("key-file", seeds.key_files, check_key_file),
        Target("did-document", seeds.did_documents, check_did_document),
        Target("signature", seeds.signatures, check_signature),
        Target("cbor", seeds.cbor_texts, check_cbor),
        Target("cose-key", seeds.cose_keys, check_cose_key),
        Target("packet", subnet_targets.packets, subnet_targets.check_packet),
        Target("dns", subnet_targets.questions, subnet_targets.check_question),
        Target("dht-message", network_targets.messages, network_targets.check_message),
        Target("dht-record", network_targets.records, network_targets.check_record),
        Target("mdns", network_targets.packets, network_targets.check_packet),
        Target("peers-file", network_targets.peers_files, network_targets.check_peers_file),
        Target("connection", subnet_targets.connections, subnet_targets.check_connection),
        Target("subnet-datagram", subnet_targets.datagrams, subnet_targets.check_datagram),
        Target("subnet-slices", subnet_targets.slices, subnet_targets.check_slices),
        Target("subnet-pieces", subnet_targets.rows_of_pieces, subnet_targets.check_pieces),
        Target("proxy", subnet_targets.proxied, subnet_targets.check_proxied),
        Target("subnet-stream", subnet_targets.streams, subnet_targets.check_stream),
        Target("dhcp", guest_targets.questions, guest_targets.check_question),
    )
}
