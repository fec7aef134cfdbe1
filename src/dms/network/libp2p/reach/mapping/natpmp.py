"""NAT-PMP (RFC 6886): a question and an answer of a few bytes each, over UDP to the router."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import TypeVar

import trio

from dms.network.libp2p.reach.mapping.gateway import LEASE_S, Mapped, NotMapped

PORT = 5351
TRIES_S = (0.25, 0.5, 1.0, 2.0)
"""How long each question waits for its answer."""
MAX_ANSWER_BYTES = 64
RESULTS = {
    1: "the router speaks another version of NAT-PMP",
    2: "the router does not allow it",
    3: "the router has no connection itself",
    4: "the router has no room for it",
    5: "the router does not know how",
}

_ASK_ADDRESS, _ASK_TCP, _IS_ANSWER = 0, 2, 128

T = TypeVar("T")


class NatPmp:
    """Asks one router.

    :param gateway: its address, and for tests the port.
    """

    name = "nat-pmp"

    def __init__(self, gateway: IPv4Address, *, port: int = PORT) -> None:
        self._target = (str(gateway), port)

    async def map(self, port: int) -> Mapped:
        """Have a TCP port forwarded, from the same port outside if that is free.

        :raises NotMapped: nobody answers, or the router refuses.
        """
        address = await self._ask(encode_address_request(), decode_address)
        external_port, lease_s = await self._ask(
            encode_mapping_request(port, port, LEASE_S), lambda answer: decode_mapping(answer, port)
        )
        if not external_port or not lease_s:
            raise NotMapped("the router forwards nothing")
        return Mapped(address, external_port, min(lease_s, LEASE_S))

    async def unmap(self, port: int) -> None:
        """Take it back.

        :raises NotMapped: the router did not say that it did.
        """
        await self._ask(encode_mapping_request(port, 0, 0), lambda answer: decode_mapping(answer, port))

    async def _ask(self, question: bytes, decode: Callable[[bytes], T | None]) -> T:
        """Ask until an answer to this question comes from the router itself; anything else is not looked at."""
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            try:
                await sock.connect(self._target)
                for wait_s in TRIES_S:
                    await sock.send(question)
                    with trio.move_on_after(wait_s):
                        while True:
                            found = decode(await sock.recv(MAX_ANSWER_BYTES))
                            if found is not None:
                                return found
            except OSError as error:
                raise NotMapped(f"no router that speaks NAT-PMP: {error.strerror or error}") from error
        raise NotMapped("no router that speaks NAT-PMP answers")


def encode_address_request() -> bytes:
    """Asks for the outer address."""
    return bytes((0, _ASK_ADDRESS))


def encode_mapping_request(internal: int, external: int, lease_s: int) -> bytes:
    """Asks to forward TCP; without lease to forward no longer."""
    return struct.pack(">BBHHHI", 0, _ASK_TCP, 0, internal, external, lease_s)


def decode_address(answer: bytes) -> IPv4Address | None:
    """The outer address; nothing when it is no answer to that.

    :raises NotMapped: the router refuses.
    """
    if not _is_answer(answer, _ASK_ADDRESS, 12):
        return None
    return IPv4Address(answer[8:12])


def decode_mapping(answer: bytes, internal: int) -> tuple[int, int] | None:
    """Outer port and lease in seconds; nothing when it is no answer to that, or about another port.

    :raises NotMapped: the router refuses.
    """
    if not _is_answer(answer, _ASK_TCP, 16):
        return None
    about, external, lease_s = struct.unpack_from(">HHI", answer, 8)
    return (external, lease_s) if about == internal else None


def _is_answer(answer: bytes, operation: int, length: int) -> bool:
    if len(answer) < 4 or answer[0] != 0 or answer[1] != _IS_ANSWER + operation:
        return False
    result = int.from_bytes(answer[2:4], "big")
    if result:
        raise NotMapped(RESULTS.get(result, f"the router answers with {result}"))
    return len(answer) >= length
