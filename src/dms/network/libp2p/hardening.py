"""Bounds that the libp2p library lacks and that cannot be set from outside: put in place once, before a host exists.

- A negotiation line may have any length (up to 2^64 bytes, before anybody is authenticated): now 1 KiB.
- Reading a frame gives up after a hundred pieces: now it goes on until the frame is whole or the stream ends.
- A receive window grows to 16 MiB for each of a peer's streams: now 2 MiB.
- After almost every read it sends credit of its own: now at half a window (:mod:`dms.network.libp2p.connections.windows`).
- A writer gives up on a reader who pauses: now it waits (:mod:`dms.network.libp2p.connections.muxed`).
- Its log reports every hostile byte as an error: now it is silent unless ``LIBP2P_DEBUG`` is set; we count instead.
"""

from __future__ import annotations

import logging
import os

import libp2p.io.msgio
import libp2p.protocol_muxer.multiselect_communicator as negotiation
from libp2p.exceptions import ParseError
from libp2p.io.abc import Reader
from libp2p.io.exceptions import IncompleteReadError
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from dms.network.libp2p.connections import muxed, windows

MAX_NEGOTIATION_BYTES = 1024
MAX_STREAM_WINDOW_BYTES = 2 << 20


def install() -> None:
    """Put the bounds in place; doing so again changes nothing."""
    # The functions are looked up in the modules that use them, so that is where they are replaced.
    for module, name, replacement in (
        (negotiation, "read_delim", _read_line),
        (libp2p.io.msgio, "read_exactly", _read_exactly),
        (yamux, "read_exactly", _read_exactly),
        (yamux, "YamuxStream", muxed.MuxedStream),
    ):
        vars(module)[name] = replacement
    yamux.MAX_WINDOW_SIZE = MAX_STREAM_WINDOW_BYTES
    windows.install()
    if not os.environ.get("LIBP2P_DEBUG"):
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)


async def _read_line(reader: Reader) -> bytes:
    """One line of a negotiation, without its newline."""
    line = await read_varint_prefixed_bytes_limited(reader, MAX_NEGOTIATION_BYTES)
    if line[-1:] != b"\n":
        raise ParseError("a negotiation line does not end")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise ParseError("a negotiation line is not text") from error
    return line[:-1]


async def _read_exactly(reader: Reader, n: int, retry_count: int = 0) -> bytes:  # noqa: ARG001  the library's signature
    """Exactly ``n`` bytes, in however many pieces they come."""
    parts = bytearray(await reader.read(n))
    while len(parts) < n:
        piece = await reader.read(n - len(parts))
        if not piece:
            raise IncompleteReadError(
                f"the connection ended after {len(parts)} of {n} bytes", expected_bytes=n, received_bytes=len(parts)
            )
        parts += piece
    return bytes(parts)
