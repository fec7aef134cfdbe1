"""What both sides say on a stream of ``nunet/files/1.0.0``.

::

    sender    → Opening      the ticket, and what the sender has
    receiver  → Verdict      from where on to send, or why not
    sender    → bytes        from there to the end of the file, then the SHA-256 of the whole
    receiver  → Verdict      whether the file is there now; also earlier, when it goes wrong

The structures go in frames, as messages do.
"""

from __future__ import annotations

import msgspec

from dms.network.byte_streams import ByteStream
from dms.network.framing import encode_frame, read_frame
from dms.storage.errors import TransferFailed
from dms.types import gojson
from dms.types.errors import BadJSON
from dms.types.gojson import Wire

PROTOCOL = "nunet/files/1.0.0"
MAX_FRAME_BYTES = 8 * 1024
DIGEST_BYTES = 32
STALL_S = 60.0
"""How long nothing may move."""


class Opening(Wire):
    """What the sender begins with."""

    ticket: str = ""
    size: int = -1

    def __repr__(self) -> str:
        return f"Opening(ticket=…, size={self.size})"


class Verdict(Wire):
    """What the receiver says: go on from ``offset``, or it is done; otherwise why not."""

    ok: bool = msgspec.field(name="OK", default=False)
    offset: int = 0
    error: str = ""
    hint: str = ""
    retry: bool = False
    """Whether the same may work in a while."""


async def tell(stream: ByteStream, words: Opening | Verdict) -> None:
    """Say something."""
    await stream.write(encode_frame(gojson.encode(words), limit_bytes=MAX_FRAME_BYTES))


async def hear_opening(stream: ByteStream) -> Opening:
    """What the sender begins with.

    :raises TransferFailed: something else.
    """
    try:
        return gojson.decode(await read_frame(stream.read, limit_bytes=MAX_FRAME_BYTES), Opening)
    except BadJSON as exc:
        raise TransferFailed(f"the other side begins with something else: {exc.message}") from None


async def hear_verdict(stream: ByteStream) -> Verdict:
    """What the receiver says.

    :raises TransferFailed: something else.
    """
    try:
        return gojson.decode(await read_frame(stream.read, limit_bytes=MAX_FRAME_BYTES), Verdict)
    except BadJSON as exc:
        raise TransferFailed(f"the other side says something else: {exc.message}") from None
