"""Connections of a private network: everything on the wire is XSalsa20 under the key that all its nodes share.

Each side sends 24 random bytes and from then on what it has to say under the stream of the cipher; below Noise, so the
negotiation is hidden, too, and whoever lacks the key does not even learn what listens there. The library's own version
takes another cipher (Salsa20, 8 bytes) and so speaks to nobody but itself.

Nothing on the wire says "wrong key". But every connection begins with the same line, so whether keys agree is seen in
its first bytes, on nodes without a key, too.
"""

from __future__ import annotations

import logging
import secrets

import trio
from Crypto.Cipher.Salsa20 import Salsa20Cipher
from libp2p.abc import IRawConnection, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.transport.upgrader import TransportUpgrader

from dms.network.libp2p.connections.buffering import Buffered
from dms.network.swarm_key import SwarmKey
from dms.network.xsalsa20 import NONCE_BYTES, xsalsa20

log = logging.getLogger(__name__)

NONCE_S = 5.0
"""How long the other end may take to send its nonce. One without a key may wait for more of what it cannot understand."""
GREETING = b"\x13/multistream/1.0.0\n"
"""What both sides of every connection say first."""


class OtherNetwork(IOException):
    """The two ends of a connection do not share a network key."""


class NotLibp2p(IOException):
    """The other end does not begin as every node without a network key does."""


class FencedUpgrader(TransportUpgrader):
    """Secures connections behind the network key, where there is one; all of them, relayed ones, too."""

    def __init__(self, noise: NoiseTransport, key: SwarmKey | None) -> None:
        super().__init__({TProtocol(NOISE_PROTOCOL_ID): noise}, {})
        self._key = key

    async def upgrade_security(
        self,
        raw_conn: IRawConnection,
        is_initiator: bool,  # noqa: FBT001  the library's signature
        peer_id: ID | None = None,
    ) -> ISecureConn:
        """As the library does, behind the fence.

        :raises OtherNetwork, NotLibp2p: in the chain of causes, if the other end is not of our network.
        """
        if isinstance(raw_conn, RawConnection) and isinstance(raw_conn.stream, TrioTCPStream):
            raw_conn.stream = Buffered(raw_conn.stream)
        fence(raw_conn, self._key)
        return await super().upgrade_security(raw_conn, is_initiator, peer_id)


def fence(conn: IRawConnection, key: SwarmKey | None) -> None:
    """Make a connection one of the private network; without a key only watch how it begins.

    :raises OtherNetwork: this kind of connection cannot be fenced.
    """
    if isinstance(conn, RawConnection):
        conn.stream = Watched(conn) if key is None else Fenced(conn.stream, key)
    elif key is not None:
        raise OtherNetwork("this kind of connection cannot be protected by a network key")


class Fenced(ReadWriteCloser):
    """A stream of bytes under the network key."""

    def __init__(self, inner: ReadWriteCloser, key: SwarmKey) -> None:
        self._inner = inner
        self._secret = key.secret
        self._sealing: Salsa20Cipher | None = None
        self._opening: Salsa20Cipher | None = None
        self._expected = GREETING

    async def write(self, data: bytes) -> None:
        """Send under the key; the nonce goes out with the first bytes."""
        nonce = b""
        if self._sealing is None:
            nonce = secrets.token_bytes(NONCE_BYTES)
            self._sealing = xsalsa20(self._secret, nonce)
        await self._inner.write(nonce + self._sealing.encrypt(data))

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes; none at the end.

        :raises OtherNetwork: the other end lacks our key.
        """
        if not self._expected and self._opening is not None:
            return self._opening.decrypt(await self._inner.read(n))
        try:
            if self._opening is None:
                with trio.fail_after(NONCE_S):
                    self._opening = xsalsa20(self._secret, await self._read_nonce())
            data = self._opening.decrypt(await self._inner.read(n))
        except OtherNetwork:
            raise
        except trio.TooSlowError:
            raise OtherNetwork(SILENT) from None
        except IOException as error:
            log.debug("a connection ended before its key was proved: %r", error)
            raise OtherNetwork(ENDED) from None
        if n != 0:
            self._compare(data)
        return data

    async def close(self) -> None:
        """End the connection."""
        await self._inner.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Where the other end is."""
        return self._inner.get_remote_address()

    async def _read_nonce(self) -> bytes:
        nonce = b""
        while len(nonce) < NONCE_BYTES:
            piece = await self._inner.read(NONCE_BYTES - len(nonce))
            nonce += piece
            if nonce.startswith(GREETING):
                raise OtherNetwork(KEYLESS)
            if not piece:
                raise OtherNetwork(ENDED)
        return nonce

    def _compare(self, data: bytes) -> None:
        if not data:
            raise OtherNetwork(ENDED)
        compared = data[: len(self._expected)]
        if not self._expected.startswith(compared):
            raise OtherNetwork(OTHER_KEY)
        self._expected = self._expected[len(compared) :]


class Watched(ReadWriteCloser):
    """The begin of a connection without a network key; steps aside once it has seen the greeting."""

    def __init__(self, conn: RawConnection) -> None:
        self._conn = conn
        self._inner = conn.stream
        self._expected = GREETING

    async def write(self, data: bytes) -> None:
        """Send."""
        await self._inner.write(data)

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes.

        :raises NotLibp2p: the other end begins as no node without a network key does.
        """
        data = await self._inner.read(n)
        compared = data[: len(self._expected)]
        if not self._expected.startswith(compared):
            raise NotLibp2p(NOT_OPEN)
        self._expected = self._expected[len(compared) :]
        if not self._expected:
            self._conn.stream = self._inner
        return data

    async def close(self) -> None:
        """End the connection."""
        await self._inner.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Where the other end is."""
        return self._inner.get_remote_address()


SILENT = "the other node says nothing: it may have no network key, this one has one (p2p.swarm_key_file)"
KEYLESS = "the other node has no network key, this one has (p2p.swarm_key_file)"
OTHER_KEY = "the other node has another network key than this one (p2p.swarm_key_file)"
ENDED = "the other node ended the connection: its network key is not the one of this node, or it has none (p2p.swarm_key_file)"
NOT_OPEN = "the other node does not speak libp2p, or belongs to a private network whose key this one lacks (p2p.swarm_key_file)"
