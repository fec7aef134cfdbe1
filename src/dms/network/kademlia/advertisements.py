"""What peers advertise, signed: the record under ``/nunet-dht-1/-<key>-<peer id>`` (``spec/network.md`` 5.1). Pure.

The original's record is ``Advertisement{peer_id, timestamp, data, public_key, signature}``, and its signature covers
peer id, *one byte* of the timestamp, data and public key: whoever holds an old record can pass it off as new. An empty
value deletes, whoever sends it.

Ours is such a record, too, so that nodes of the original keep it and hand it on; but its data is a message of its own
with the key, a sequence number, an expiry, and whether it is taken back. As the signature covers all data, none of that
can be changed or stripped. A record that is taken back stays until it expires, so an older one cannot come back. Empty
values are refused. The original's own records can be read; any record of ours outranks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dms.identity.errors import IdentityError
from dms.identity.ids import peer_id_of
from dms.identity.keys import PrivateKey, public_key_from_protobuf
from dms.network.addresses import parse_peer_id
from dms.network.directory import MAX_KEY_CHARS, Advertisement
from dms.network.errors import BadFrame, InvalidAddress, InvalidRecord
from dms.network.protobuf import Field, data_of, decode, encode, number
from dms.types.ids import PeerID

NAMESPACE = "nunet-dht-1"
LIFETIME_S = 48 * 3600
"""How long a record holds; it is renewed long before."""
LEEWAY_S = 3600
"""By how much the clocks of peers may differ."""

_MARK = b"\x00nunet-advertisement\x01"
_PEER, _TIMESTAMP, _DATA, _PUBLIC_KEY, _SIGNATURE = 1, 2, 3, 4, 5
_INNER_KEY, _INNER_SEQUENCE, _INNER_EXPIRES, _INNER_DATA, _INNER_WITHDRAWN = 1, 2, 3, 4, 5
_KEY_START = b"\x08"
_SIGN_BIT = 1 << 63


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record whose signature holds."""

    peer: PeerID
    data: bytes
    sequence: int
    expires_s: float | None = None
    """Unix time; nothing in the original's format."""
    is_withdrawn: bool = False
    key: str | None = None
    """Nothing in the original's format: there it is not signed."""

    @property
    def is_legacy(self) -> bool:
        """Whether it has the original's format."""
        return self.expires_s is None

    def advertisement(self, key: str, wall_s: float) -> Advertisement:
        """What the caller of a query sees."""
        expires_s = wall_s + LIFETIME_S if self.expires_s is None else self.expires_s
        return Advertisement(key, self.peer, self.data, self.sequence, expires_s, self.is_legacy)


def record_key(key: str, peer: PeerID) -> bytes:
    """Where the record of a peer for a key is."""
    return f"/{NAMESPACE}/-{key}-{peer}".encode()


def split_record_key(raw: bytes) -> tuple[str, PeerID]:
    """The key and the peer.

    :raises InvalidRecord: it is the place of no advertisement.
    """
    try:
        text = raw.decode()
        head, marker, rest = text.partition(f"/{NAMESPACE}/-")
        key, dash, peer = rest.rpartition("-")
        if head or not marker or not dash or not 0 < len(key) <= MAX_KEY_CHARS:
            raise InvalidRecord("not the key of an advertisement")
        return key, parse_peer_id(peer)
    except (UnicodeDecodeError, InvalidAddress) as error:
        raise InvalidRecord(f"not the key of an advertisement: {error}") from error


def seal(
    signer: PrivateKey, key: str, data: bytes, *, sequence: int, wall_s: float, is_withdrawn: bool = False
) -> bytes:
    """Our record; ``sequence`` must be higher than that of any before, under the same key."""
    public = signer.public
    peer = peer_id_of(public)
    inner: list[Field] = [
        (_INNER_KEY, key.encode()),
        (_INNER_SEQUENCE, sequence),
        (_INNER_EXPIRES, int(wall_s) + LIFETIME_S),
        (_INNER_DATA, data),
        (_INNER_WITHDRAWN, int(is_withdrawn)),
    ]
    content = _MARK + encode(inner)
    timestamp = int(wall_s)
    signature = signer.sign(_signed(peer, timestamp, content, public.to_protobuf()))
    return encode(
        [
            (_PEER, peer.encode()),
            (_TIMESTAMP, timestamp),
            (_DATA, content),
            (_PUBLIC_KEY, public.to_protobuf()),
            (_SIGNATURE, signature),
        ]
    )


def unseal(raw: bytes) -> SignedRecord:
    """Read a record of either format, and verify its signature.

    :raises InvalidRecord: it is malformed, or the signature does not hold.
    """
    if not raw:
        raise InvalidRecord("an advertisement cannot be deleted by an empty value")
    try:
        fields = decode(raw, max_fields=32)
        peer = PeerID(data_of(fields, _PEER).decode("ascii"))
        timestamp = number(fields, _TIMESTAMP)
        content = data_of(fields, _DATA)
        public_raw, signature = data_of(fields, _PUBLIC_KEY), data_of(fields, _SIGNATURE)
        if signature.startswith(_KEY_START) and not public_raw.startswith(_KEY_START):
            public_raw, signature = signature, public_raw  # the order of the two is written down nowhere
        public = public_key_from_protobuf(public_raw)
        if peer_id_of(public) != peer:
            raise InvalidRecord("an advertisement is signed with the key of somebody else")
    except (BadFrame, IdentityError, UnicodeDecodeError) as error:
        raise InvalidRecord(f"not an advertisement: {error}") from error
    if not public.verify(_signed(peer, timestamp, content, public_raw), signature):
        raise InvalidRecord("the signature of an advertisement does not hold")
    if not content.startswith(_MARK):
        return SignedRecord(peer, content, 0 if timestamp & _SIGN_BIT else timestamp)
    return _unseal_inner(peer, content.removeprefix(_MARK))


class AdvertisementValidator:
    """What holds in the namespace of advertisements."""

    def validate(self, key: bytes, value: bytes, wall_s: float) -> None:
        """Return if the record may stand there now.

        :raises InvalidRecord: it is forged, somebody else's, for another key, expired, or from the far future.
        """
        name, owner = split_record_key(key)
        record = unseal(value)
        if record.peer != owner or record.key not in (None, name):
            raise InvalidRecord("an advertisement stands in the place of another")
        if record.expires_s is not None and not 0 < record.expires_s - wall_s + LEEWAY_S <= LIFETIME_S + 2 * LEEWAY_S:
            raise InvalidRecord("an advertisement has expired, or expires too late")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """The highest sequence number; ours before the original's. Ties go to the later expiry, then to the bytes."""
        records = [unseal(value) for value in values]

        def rank(index: int) -> tuple[bool, int, float, bytes]:
            record = records[index]
            return not record.is_legacy, record.sequence, record.expires_s or 0.0, values[index]

        return max(range(len(values)), key=rank)


def _unseal_inner(peer: PeerID, raw: bytes) -> SignedRecord:
    try:
        fields = decode(raw, max_fields=32)
        return SignedRecord(
            peer,
            data_of(fields, _INNER_DATA),
            number(fields, _INNER_SEQUENCE),
            float(number(fields, _INNER_EXPIRES)),
            number(fields, _INNER_WITHDRAWN) != 0,
            data_of(fields, _INNER_KEY).decode(),
        )
    except (BadFrame, UnicodeDecodeError) as error:
        raise InvalidRecord(f"not an advertisement: {error}") from error


def _signed(peer: PeerID, timestamp: int, content: bytes, public: bytes) -> bytes:
    return peer.encode() + bytes([timestamp & 0xFF]) + content + public
