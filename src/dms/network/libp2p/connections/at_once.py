"""A short way down for what can go at once: encrypted and handed to the kernel in the step that brings it.

A packet of a private network is not worth a task that wakes for it. Where the layers below a connection are the usual
ones they are known, and none of them has to be waited for.
"""

from __future__ import annotations

from libp2p.abc import ISecureConn
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import SIZE_NOISE_MESSAGE_LEN, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

from dms.network.libp2p.connections.buffering import Buffered


class AtOnce:
    """Of one connection, encrypted already."""

    def __init__(self, secured: ISecureConn) -> None:
        noise = secured.conn if isinstance(secured, SecureSession) else None
        self._noise = noise if isinstance(noise, NoiseTransportReadWriter) else None
        self._raw: object = self._noise.read_writer.read_write_closer if self._noise is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether there is such a way, and nothing stands on it."""
        return isinstance(self._raw, RawConnection) and _is_free(self._raw.stream)

    @property
    def is_behind(self) -> bool:
        """Whether something is left for the next write."""
        stream = self._raw.stream if isinstance(self._raw, RawConnection) else None
        return isinstance(stream, Buffered) and stream.is_behind

    def write(self, data: bytes) -> None:
        """Encrypt and send it, one packet of the encryption at most; where :attr:`is_ready`.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        assert self._noise is not None
        assert isinstance(self._raw, RawConnection)
        assert isinstance(self._raw.stream, Buffered)
        sealed = self._noise.encrypt(data)
        self._raw.stream.write_nowait(len(sealed).to_bytes(SIZE_NOISE_MESSAGE_LEN, "big") + sealed)

    async def flush(self) -> None:
        """Send what is left.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        if isinstance(self._raw, RawConnection):
            await self._raw.write(b"")


def _is_free(stream: object) -> bool:
    return isinstance(stream, Buffered) and not stream.is_behind
