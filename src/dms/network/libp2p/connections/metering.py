"""A connection, encrypted already, that counts what passes and reads no faster than its peer may send.

Whoever sends more than his share is not told: his bytes stay in the kernel's buffers and then in his own.
"""

from __future__ import annotations

import trio
from libp2p.abc import ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.crypto.keys import PrivateKey, PublicKey
from libp2p.peer.id import ID
from libp2p.security.secure_session import SecureSession
from multiaddr import Multiaddr

from dms.network.libp2p.connections.at_once import AtOnce
from dms.network.libp2p.connections.limits import Share


class MeteredConn(ISecureConn):
    """What the muxer reads from and writes to."""

    def __init__(self, secured: ISecureConn, share: Share) -> None:
        self.is_initiator = secured.is_initiator
        self.negotiated_security_protocol = getattr(secured, "negotiated_security_protocol", None)
        self.bytes_in = 0
        self.bytes_out = 0
        self.pauses = 0
        """How often the peer was made to wait."""
        self.secured = secured
        self._share = share
        self.at_once = AtOnce(secured)

    @property
    def held_bytes(self) -> int:
        """What was decrypted and not read yet."""
        secured = self.secured
        return secured.high_watermark - secured.low_watermark if isinstance(secured, SecureSession) else 0

    async def read(self, n: int | None = None) -> bytes:
        """As the connection does; then wait, if the peer has had more than its share."""
        data = await self.secured.read(n)
        self.bytes_in += len(data)
        wait_s = self._share.incoming.charge(len(data), trio.current_time())
        if wait_s > 0:
            self.pauses += 1
            await trio.sleep(wait_s)
        return data

    async def write(self, data: bytes) -> None:
        """As the connection does."""
        await self.secured.write(data)
        self.bytes_out += len(data)

    def write_nowait(self, data: bytes) -> None:
        """The same in this very step, where :attr:`at_once` is ready."""
        self.at_once.write(data)
        self.bytes_out += len(data)

    async def close(self) -> None:
        """As the connection does."""
        await self.secured.close()

    def get_local_peer(self) -> ID:
        """Our own id."""
        return self.secured.get_local_peer()

    def get_local_private_key(self) -> PrivateKey:
        """Our own key."""
        return self.secured.get_local_private_key()

    def get_remote_peer(self) -> ID:
        """Who is at the other end."""
        return self.secured.get_remote_peer()

    def get_remote_public_key(self) -> PublicKey:
        """The key with which that was proved."""
        return self.secured.get_remote_public_key()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other end."""
        return self.secured.get_remote_address()

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The address that was dialled, or came in."""
        return self.secured.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Direct, or relayed."""
        return self.secured.get_connection_type()
