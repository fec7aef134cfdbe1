"""What the swarm tells its listeners, for those to whom only connections matter."""

from __future__ import annotations

from libp2p.abc import INetStream, INetwork, INotifee
from multiaddr import Multiaddr


class ConnectionNotifee(INotifee):
    """Hears nothing of streams and listeners; ``connected`` and ``disconnected`` are left to do."""

    async def opened_stream(self, _network: INetwork, _stream: INetStream) -> None:
        """Nothing."""

    async def closed_stream(self, _network: INetwork, _stream: INetStream) -> None:
        """Nothing."""

    async def listen(self, _network: INetwork, _address: Multiaddr) -> None:
        """Nothing."""

    async def listen_close(self, _network: INetwork, _address: Multiaddr) -> None:
        """Nothing."""
