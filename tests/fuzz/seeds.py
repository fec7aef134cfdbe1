"""Good inputs of every kind, made with fixed keys: the same in every run."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from dms.actor.envelope import Envelope, Options
from dms.actor.handle import NOBODY, Address, Handle
from dms.actor.replay import KEY_BYTES
from dms.actor.replay_file import MAGIC
from dms.capability.token import Token, TokenList, encode_token_list, issue, issue_revocation
from dms.identity import cbor
from dms.identity.cardano import key_hash
from dms.identity.ids import DID, NO_DID, peer_id_of
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.identity.keystore import Keystore
from dms.testing.parties import HOUR_NS, NOW_NS, Party
from dms.types import gojson

PASSPHRASE: Final = "a passphrase"
MESSAGE: Final = b"dms:token:{}"
PRISM_DID: Final = DID(uri="did:prism:" + "5a" * 32)
_SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

NODE: Final = Party("fuzz node")
ORGANISATION: Final = Party("fuzz organisation")
MEMBER: Final = Party("fuzz member")
ELDER: Final = Party("fuzz elder", kind=KeyType.SECP256K1)


@functools.cache
def tokens() -> tuple[Token, ...]:
    """Of every action, with and without chains, topics, depth and audience."""
    membership = _issue(ORGANISATION, MEMBER, "/public", "/broadcast", topics=("/nunet",))
    bounded = _issue(ORGANISATION, ELDER, "/public", depth=2)
    passed = _issue(ELDER, MEMBER, "/public/note", parent=bounded, depth=1)
    chain = membership
    for _ in range(14):
        chain = _issue(MEMBER, MEMBER, "/public", parent=chain)
    return (
        acceptance(),
        membership,
        bounded,
        passed,
        _issue(MEMBER, MEMBER, "/public/note", act="invoke", audience=NODE.did, parent=membership),
        _issue(MEMBER, MEMBER, "/public/note", act="invoke", audience=NODE.did, parent=passed),
        _issue(MEMBER, MEMBER, "/broadcast/hello", act="broadcast", topics=("/nunet/hello",), parent=membership),
        _issue(MEMBER, MEMBER, "/public/note", act="invoke", parent=chain),
        _issue(MEMBER, MEMBER, "/<&>\u2028é", act="invoke"),
        _issue(ORGANISATION, NODE, "/public", topics=("/nunet",)),
        _issue(MEMBER, MEMBER, "/public", act="invoke", expiry_ns=NOW_NS - 1),
        issue_revocation(ORGANISATION.provider, bounded),
    )


@functools.cache
def acceptance() -> Token:
    """By which the node accepts the members of the organisation."""
    return _issue(NODE, ORGANISATION, "/public", "/broadcast", topics=("/nunet",))


def token_texts() -> Sequence[bytes]:
    """Tokens."""
    return [token.json for token in tokens()]


def token_lists() -> Sequence[bytes]:
    """As in messages."""
    every = tokens()
    return [
        b"{}",
        encode_token_list(TokenList.of(*every[4:6])),
        encode_token_list(TokenList.of(*every[:6])),
        encode_token_list(TokenList.of(every[7])),
        b'{"tok":[null,%b]}' % every[4].json,
    ]


def context_files() -> Sequence[bytes]:
    """As the store writes them."""
    every = tokens()
    parts = {
        "roots": gojson.encode([MEMBER.did, ELDER.did]),
        "require": encode_token_list(TokenList.of(acceptance())),
        "provide": encode_token_list(TokenList.of(every[9])),
        "revoke": encode_token_list(TokenList.of(every[11])),
    }
    did = gojson.encode(NODE.did)
    full = b'{"did":%b,%b}\n' % (did, b",".join(b'"%b":%b' % (k.encode(), v) for k, v in parts.items()))
    empty = b'{"did":%b,"roots":null,"require":{},"provide":{},"revoke":{}}\n' % did
    early = full.replace(b'"did"', b'"DID"', 1).replace(b'"roots"', b'"Roots"').replace(b'"require"', b'"Require"')
    return [full, empty, early]


@functools.cache
def envelopes() -> tuple[bytes, ...]:
    """To one, to all, with a reply, with text that has to be escaped, by keys of both kinds."""
    sender, receiver = _handle(MEMBER), _handle(NODE)
    caps = encode_token_list(TokenList.of(tokens()[4]))
    options = Options(exp=NOW_NS + 10**10)
    asking = Options(exp=NOW_NS + 10**10, cont="/dms/actor/replyto/1")
    topic = Options(exp=NOW_NS + 10**10, topic="/nunet/hello")
    made = [
        Envelope(to=receiver, be="/public/note", from_=sender, nonce=1, opt=options, msg=b'{"a":1}', cap=caps),
        Envelope(to=receiver, be="/public/ping", from_=sender, nonce=2, opt=asking, msg=b"null", cap=caps),
        Envelope(to=NOBODY, be="/broadcast/hello", from_=sender, nonce=3, opt=topic, msg=b"[]", cap=caps),
        Envelope(to=receiver, be="/<&>\u2028é", from_=sender, nonce=2**64 - 1, opt=options, msg=b""),
    ]
    elder = Envelope(to=receiver, be="/public/note", from_=_handle(ELDER), nonce=4, opt=options, msg=b'"x"')
    return (*(one.sign(MEMBER.key).encode() for one in made), elder.sign(ELDER.key).encode())


def replay_files() -> Sequence[bytes]:
    """Empty, with records that hold, have expired and repeat, and with one cut off."""
    head = MAGIC + bytes(KEY_BYTES)
    records = [(n, n % 2, NOW_NS + (n - 2) * 10**9) for n in (1, 2, 3, 4, 4)] + [(0, 1, NOW_NS), (2**64 - 1,) * 3]
    body = b"".join(struct.pack("<QQQ", *record) for record in records)
    return [head, head + body, head + body[:-5]]


def handles() -> Sequence[bytes]:
    """Of somebody and of nobody."""
    return [gojson.encode(handle) for handle in (_handle(MEMBER), _handle(ELDER), NOBODY)]


def json_texts() -> Sequence[bytes]:
    """Everything above, and values of all kinds."""
    plain = [b'{"a":[1,-0.5,1e21,1e-7,"\\u2028<\xc3\xa9\\ud83d\\ude00",null,true,{"":{}}],"A":18446744073709551615}']
    return [*plain, *token_texts()[:4], *envelopes()[:2], *handles()]


def names() -> Sequence[bytes]:
    """DIDs of keys of all kinds and others, peer ids, actor ids."""
    dids = [party.did.uri for party in (NODE, ELDER)]
    wallets = [b"did:key:zCardano", PRISM_DID.uri.encode()]
    peers = [peer_id_of(party.key.public) for party in (NODE, ELDER)]
    return [*(text.encode() for text in (*dids, *peers, NODE.id.pub, ELDER.id.pub)), *wallets]


def keys() -> Sequence[bytes]:
    """Serialised, public and private; the old long form of Ed25519 too."""
    texts = [part for party in (NODE, ELDER) for part in (party.key.public.to_protobuf(), party.key.to_protobuf())]
    return [*texts, b"\x08\x01\x12\x60" + texts[1][4:] + texts[1][-32:]]


@functools.cache
def key_files() -> tuple[bytes, ...]:
    """Cheap ones: what a file asks for is what the reader pays. Salt and IV are random, so they are made once and kept."""
    return tuple(path.read_bytes() for path in sorted((Path(__file__).parent / "corpus" / "key-file").glob("seed-*")))


def make_key_files() -> Sequence[bytes]:
    """New ones, to begin a corpus with."""
    files = []
    with tempfile.TemporaryDirectory() as directory:
        for party in (NODE, ELDER):
            Keystore(Path(directory), scrypt_n=2).save("key", party.key, PASSPHRASE)
            files.append((Path(directory) / "key.json").read_bytes())
    return files


def stored_keys() -> Sequence[PrivateKey]:
    """What the key files hold."""
    return [NODE.key, ELDER.key]


def did_documents() -> Sequence[bytes]:
    """With a reference, and with an embedded key of the other kind."""
    x, y = (number.to_bytes(32, "big") for number in _point(ELDER.key.public))
    okp = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(NODE.key.public.raw)}
    ec = {"kty": "EC", "crv": "secp256k1", "x": _base64url(x), "y": _base64url(y)}
    one, two = (
        {"id": f"{PRISM_DID}#{name}", "type": "JsonWebKey2020", "controller": PRISM_DID.uri, "publicKeyJwk": jwk}
        for name, jwk in (("auth-0", okp), ("auth-1", ec))
    )
    document = {"@context": ["https://www.w3.org/ns/did/v1"], "id": PRISM_DID.uri, "verificationMethod": [one, two]}
    return [
        json.dumps(document | {"authentication": [f"{PRISM_DID}#auth-0"]}).encode(),
        json.dumps(document | {"authentication": ["#auth-1"], "service": []}).encode(),
        json.dumps(document | {"authentication": [two]}).encode(),
    ]


@functools.cache
def public_keys() -> tuple[PublicKey, ...]:
    """One of each kind; the wallets' are those of the same secrets."""
    ed25519, secp256k1 = NODE.key.public, ELDER.key.public
    wallets = PublicKey(KeyType.CARDANO, ed25519.raw), PublicKey(KeyType.ETH, secp256k1.raw)
    return (ed25519, secp256k1, *wallets)


@functools.cache
def signatures() -> tuple[bytes, ...]:
    """Of :data:`MESSAGE`: with each key, and as a wallet with and without an address."""
    address = b"\xe1" + key_hash(NODE.key.public.raw)
    headers: list[dict[int | bytes | str, cbor.Value]] = [{1: -8}, {1: -8, "address": address}]
    cose = []
    for header in headers:
        protected = cbor.encode(header)
        inner = NODE.key.sign(cbor.encode(["Signature1", protected, b"", MESSAGE]))
        cose += [cbor.encode([protected, {"hashed": False}, payload, inner]) for payload in (None, MESSAGE)]
    return (NODE.key.sign(MESSAGE), ELDER.key.sign(MESSAGE), _ethereum_signature(), *cose)


@functools.cache
def signature_cores() -> frozenset[bytes]:
    """Of the signatures what the signers chose."""
    plain = signatures()
    cose = [cbor.decode(text) for text in plain[3:]]
    chosen = [one[0] + one[3] for one in cose if isinstance(one, list)]  # type: ignore[operator]
    return frozenset([plain[0], ecdsa_core(plain[1]), ecdsa_core(plain[2]), *chosen])  # type: ignore[list-item]


def ecdsa_core(signature: bytes) -> bytes:
    """Both numbers, s in the lower half of the order: the upper one says the same."""
    r, s = decode_dss_signature(signature)
    return b"%x %x" % (r, min(s, _SECP256K1_ORDER - s))


def cbor_texts() -> Sequence[bytes]:
    """Signatures, keys and values of all kinds."""
    values: list[cbor.Value] = [
        0,
        -1,
        2**64 - 1,
        b"\0" * 30,
        "text é",
        [1, [2, [3, []]], None, True, False],
        {1: 2, -1: b"x", "a": {"b": [{}]}},
    ]
    return [*map(cbor.encode, values), *signatures()[3:], *cose_keys()]


def cose_keys() -> Sequence[bytes]:
    """An Ed25519 key, bare and in COSE."""
    raw = NODE.key.public.raw
    full: dict[int | bytes | str, cbor.Value] = {1: 1, 3: -8, -1: 6, -2: raw}
    short: dict[int | bytes | str, cbor.Value] = {1: 1, -1: 6, -2: raw}
    return [raw, cbor.encode(full), cbor.encode(short)]


# ---------------------------------------------------------------------------------------------------------------------


def _issue(
    giver: Party,
    taker: Party,
    *caps: str,
    act: str = "delegate",
    audience: DID = NO_DID,
    topics: tuple[str, ...] = (),
    expiry_ns: int = NOW_NS + HOUR_NS,
    depth: int = 0,
    parent: Token | None = None,
) -> Token:
    nonce = hashlib.sha256(f"{giver.did}{taker.did}{caps}{act}{expiry_ns}{depth}{parent}".encode()).digest()[:12]
    return issue(
        giver.provider, act, taker.did, audience, topics, caps, expiry_ns, depth=depth, parent=parent, nonce=nonce
    )


def _handle(party: Party) -> Handle:
    return Handle(id=party.id, did=party.did, addr=Address(host=peer_id_of(party.key.public), inbox="root"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _point(key: PublicKey) -> tuple[int, int]:
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key.raw).public_numbers()
    return numbers.x, numbers.y


def _ethereum_signature() -> bytes:
    """As the Ledger's Ethereum application signs."""
    import coincurve
    from Crypto.Hash import keccak

    text = b"\x19Ethereum Signed Message:\n%d%b" % (len(MESSAGE), MESSAGE)
    digest = keccak.new(digest_bits=256, data=text).digest()
    secret = hashlib.sha256(b"fuzz elder").digest()
    return coincurve.PrivateKey(secret).sign(digest, hasher=None)
