"""Messages of the hash table as go and js write them (libp2p kad-dht, protobuf). Pure.

What somebody sends is read leniently and bounded: peers with ids or addresses that make no sense are left out, a record
whose key differs from the message's is the server's concern.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from multiaddr import Multiaddr

from dms.network.addresses import MAX_ADDRESSES_PER_PEER
from dms.network.errors import BadFrame, InvalidAddress
from dms.network.kademlia.keys import peer_bytes, peer_of_bytes
from dms.network.protobuf import Field, all_data, data_of, decode, encode, number
from dms.types.ids import PeerID

MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 256 * 1024
MAX_PEERS = 64
"""Peers of one kind that are read from a message."""
_MAX_ADDRESS_BYTES = 256
_CACHE = 1024
"""The same peers come in answer after answer, and reading their addresses is slow."""
_CACHED_BYTES = 1024

_TYPE, _KEY, _RECORD, _CLOSER, _PROVIDERS, _CLUSTER = 1, 2, 3, 8, 9, 10


class Kind(IntEnum):
    """What a message asks or answers."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer and where it listens."""

    peer: PeerID
    addresses: tuple[Multiaddr, ...] = ()
    is_connected: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A value under its key; ``received`` is text (RFC 3339) of whoever stored it, and means nothing to others."""

    key: bytes
    value: bytes
    received: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or answer."""

    kind: Kind
    key: bytes = b""
    record: Record | None = None
    closer: tuple[Contact, ...] = ()
    providers: tuple[Contact, ...] = ()

    def encode(self) -> bytes:
        """As it travels, without its length."""
        fields: list[Field] = [(_TYPE, int(self.kind)), (_KEY, self.key)]
        if self.record is not None:
            parts: list[Field] = [(1, self.record.key), (2, self.record.value)]
            if self.record.received:
                parts.append((5, self.record.received.encode()))
            fields.append((_RECORD, encode(parts)))
        fields += ((_CLOSER, _encode_contact(one)) for one in self.closer)
        fields += ((_PROVIDERS, _encode_contact(one)) for one in self.providers)
        return encode(fields)


def decode_message(data: bytes) -> Message:
    """A message as it travels, without its length.

    :raises BadFrame: it is none.
    """
    fields = decode(data)
    try:
        kind = Kind(number(fields, _TYPE))
    except ValueError as error:
        raise BadFrame(f"no such message of the hash table: {error}") from None
    record = None
    for raw in all_data(fields, _RECORD):
        parts = decode(raw)
        received = data_of(parts, 5).decode("utf-8", "replace")
        record = Record(data_of(parts, 1), data_of(parts, 2), received)
    return Message(
        kind,
        data_of(fields, _KEY),
        record,
        tuple(_decode_contacts(all_data(fields, _CLOSER))),
        tuple(_decode_contacts(all_data(fields, _PROVIDERS))),
    )


def received_at(wall_s: float) -> str:
    """A moment as records carry it."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond * 1000:09d}Z"


@functools.lru_cache(maxsize=_CACHE)
def _encode_contact(contact: Contact) -> bytes:
    fields: list[Field] = [(1, peer_bytes(contact.peer))]
    fields += ((2, address.to_bytes()) for address in contact.addresses)
    fields.append((3, int(contact.is_connected)))
    return encode(fields)


def _decode_contacts(raws: Sequence[bytes]) -> list[Contact]:
    read = (_decode_cached(raw) if len(raw) <= _CACHED_BYTES else _decode_contact(raw) for raw in raws[:MAX_PEERS])
    return [contact for contact in read if contact is not None]


def _decode_contact(raw: bytes) -> Contact | None:
    """The peer; nothing where that makes no sense."""
    try:
        fields = decode(raw)
        peer = peer_of_bytes(data_of(fields, 1))
        addresses = all_data(fields, 2)[:MAX_ADDRESSES_PER_PEER]
        is_connected = number(fields, 3) == 1
    except (BadFrame, InvalidAddress):
        return None
    usable = (address for address in map(_decode_address, addresses) if address is not None)
    return Contact(peer, tuple(usable), is_connected)


_decode_cached = functools.lru_cache(maxsize=_CACHE)(_decode_contact)


def _decode_address(raw: bytes) -> Multiaddr | None:
    return _parse_address(raw) if len(raw) <= _MAX_ADDRESS_BYTES else None


@functools.lru_cache(maxsize=4096)
def _parse_address(raw: bytes) -> Multiaddr | None:
    try:
        address = Multiaddr(raw)
        str(address)  # only now it is read to its end
    except Exception:  # noqa: BLE001  the library raises whatever it stumbles over
        return None
    return address
