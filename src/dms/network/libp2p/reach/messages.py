"""The messages of circuit relay 2, DCUtR and AutoNAT 1, byte for byte as go and js write them.

Decoders take :class:`~dms.network.libp2p.reach.protobuf.Fields` and raise :class:`~dms.network.errors.BadFrame` only.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from multiaddr import Multiaddr

from dms.network.errors import BadFrame
from dms.network.libp2p.reach.protobuf import Fields, Value, encode

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
DCUTR = "/libp2p/dcutr"
AUTONAT = "/libp2p/autonat/1.0.0"

MAX_ADDRESSES = 32
"""Of one message; more are left unread."""
_MAX_ADDRESS_BYTES = 512


class HopType(IntEnum):
    """What is asked of a relay."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(IntEnum):
    """What a relay says to whom it forwards a connection."""

    CONNECT = 0
    STATUS = 1


class Status(IntEnum):
    """How a relay answers."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True)
class Limit:
    """Of one relayed connection: seconds, and bytes in each direction; 0 is no limit."""

    duration_s: int = 0
    data_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A relay's promise, until ``expire``, in seconds since 1970."""

    expire: int
    addresses: tuple[Multiaddr, ...] = ()
    voucher: bytes | None = None


@dataclass(frozen=True, slots=True)
class HopMessage:
    """Between a relay and whoever uses it."""

    type: int
    peer: bytes | None = None
    reservation: Reservation | None = None
    limit: Limit | None = None
    status: int | None = None

    def encode(self) -> bytes:
        """The bytes of it."""
        return encode(
            (
                (1, int(self.type)),
                (2, _encode_peer(self.peer)),
                (3, _encode_reservation(self.reservation)),
                (4, _encode_limit(self.limit)),
                (5, self.status),
            )
        )

    @classmethod
    def decode(cls, fields: Fields) -> HopMessage:
        """Read it.

        :raises BadFrame: it has no type, or something within is none.
        """
        return cls(
            _type_of(fields),
            _decode_peer(fields.message(2)),
            _decode_reservation(fields.message(3)),
            _decode_limit(fields.message(4)),
            fields.number(5),
        )


@dataclass(frozen=True, slots=True)
class StopMessage:
    """Between a relay and the peer to whom it forwards a connection; ``peer`` is who connects."""

    type: int
    peer: bytes | None = None
    limit: Limit | None = None
    status: int | None = None

    def encode(self) -> bytes:
        """The bytes of it."""
        return encode(
            (
                (1, int(self.type)),
                (2, _encode_peer(self.peer)),
                (3, _encode_limit(self.limit)),
                (4, self.status),
            )
        )

    @classmethod
    def decode(cls, fields: Fields) -> StopMessage:
        """Read it.

        :raises BadFrame: it has no type, or something within is none.
        """
        return cls(
            _type_of(fields), _decode_peer(fields.message(2)), _decode_limit(fields.message(3)), fields.number(4)
        )


class PunchType(IntEnum):
    """Steps of a hole punch."""

    CONNECT = 100
    SYNC = 300


@dataclass(frozen=True, slots=True)
class HolePunch:
    """One step, with the addresses at which its sender may be reached."""

    type: int
    addresses: tuple[Multiaddr, ...] = ()

    def encode(self) -> bytes:
        """The bytes of it."""
        return encode(((1, int(self.type)), *((2, address.to_bytes()) for address in self.addresses)))

    @classmethod
    def decode(cls, fields: Fields) -> HolePunch:
        """Read it.

        :raises BadFrame: it has no type.
        """
        return cls(_type_of(fields), decode_addresses(fields.all_data(2)))


class DialStatus(IntEnum):
    """How somebody whom we asked to dial us answers."""

    OK = 0
    DIAL_ERROR = 100
    DIAL_REFUSED = 101
    BAD_REQUEST = 200
    INTERNAL_ERROR = 300


@dataclass(frozen=True, slots=True)
class DialRequest:
    """Dial me at one of these."""

    peer: bytes
    addresses: tuple[Multiaddr, ...]

    def encode(self) -> bytes:
        """The bytes of it."""
        addresses: list[tuple[int, Value]] = [(2, address.to_bytes()) for address in self.addresses]
        return encode(((1, 0), (2, encode(((1, encode(((1, self.peer), *addresses))),)))))

    @classmethod
    def decode(cls, fields: Fields) -> DialRequest:
        """Read it.

        :raises BadFrame: it is not one.
        """
        dial = fields.message(2)
        peer = dial.message(1) if dial else None
        name = peer.data(1) if peer else None
        if fields.number(1) not in (None, 0) or peer is None or name is None:
            raise BadFrame("not a request to dial")
        return cls(name, decode_addresses(peer.all_data(2)))


@dataclass(frozen=True, slots=True)
class DialResponse:
    """What came of it, and at which address."""

    status: int
    text: str = ""
    address: Multiaddr | None = None

    def encode(self) -> bytes:
        """The bytes of it."""
        address = self.address.to_bytes() if self.address is not None else None
        inner = encode(((1, int(self.status)), (2, self.text.encode() or None), (3, address)))
        return encode(((1, 1), (3, inner)))

    @classmethod
    def decode(cls, fields: Fields) -> DialResponse:
        """Read it.

        :raises BadFrame: it is not one.
        """
        inner = fields.message(3)
        if fields.number(1) != 1 or inner is None:
            raise BadFrame("not an answer to a request to dial")
        text = (inner.data(2) or b"")[:200].decode(errors="replace")
        addresses = decode_addresses(inner.all_data(3))
        return cls(inner.number(1) or 0, text, addresses[0] if addresses else None)


def decode_addresses(raw: tuple[bytes, ...]) -> tuple[Multiaddr, ...]:
    """Those that are multiaddresses; the others, and what is beyond :data:`MAX_ADDRESSES`, are left out."""
    found = []
    for one in raw[:MAX_ADDRESSES]:
        if len(one) > _MAX_ADDRESS_BYTES:
            continue
        with suppress(Exception):  # the library raises whatever comes; an address that we cannot read is useless
            address = Multiaddr(one)
            if str(address):
                found.append(address)
    return tuple(found)


def _type_of(fields: Fields) -> int:
    found = fields.number(1)
    if found is None:
        raise BadFrame("a message without its type")
    return found


def _encode_peer(peer: bytes | None) -> bytes | None:
    return None if peer is None else encode(((1, peer),))


def _decode_peer(fields: Fields | None) -> bytes | None:
    if fields is None:
        return None
    found = fields.data(1)
    if found is None:
        raise BadFrame("a peer without its id")
    return found


def _encode_limit(limit: Limit | None) -> bytes | None:
    if limit is None:
        return None
    return encode(((1, limit.duration_s or None), (2, limit.data_bytes or None)))


def _decode_limit(fields: Fields | None) -> Limit | None:
    return None if fields is None else Limit(fields.number(1) or 0, fields.number(2) or 0)


def _encode_reservation(reservation: Reservation | None) -> bytes | None:
    if reservation is None:
        return None
    addresses: list[tuple[int, Value]] = [(2, address.to_bytes()) for address in reservation.addresses]
    return encode(((1, reservation.expire), *addresses, (3, reservation.voucher)))


def _decode_reservation(fields: Fields | None) -> Reservation | None:
    if fields is None:
        return None
    return Reservation(fields.number(1) or 0, decode_addresses(fields.all_data(2)), fields.data(3))
