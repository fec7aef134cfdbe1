"""TCP connections with the allocations of this machine, as streams (:mod:`dms.subnet.connecting`).

Who may: the machines of the private network of an ensemble, with its members at their addresses; and the orchestrator's
machine, with its allocations by their ids. Everybody else is told the same, whatever is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import TypeVar

import trio

from dms.allocation.allocation import Allocation
from dms.network import ByteStream, Network
from dms.network.errors import PeerUnreachable
from dms.node.endpoints import Connect, connect, connect_to_first, endpoints_of, is_on_link, with_ports
from dms.node.hosting import Hosting
from dms.node.private_networks import PrivateNetworks
from dms.subnet.connecting import HEAD_S, PROTOCOL, Answer, Wanted, decode_wanted, dial, encode_answer, read_head
from dms.subnet.errors import BadPacket, NotConnected
from dms.subnet.pipes import Pipe, join
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID, PeerID

MAX_OF_PEER = 48
"""Connections that one machine has here at once; fewer than the streams it may have for everything."""
MAX_OF_ENSEMBLE = 256
KERNEL, OFF = "kernel", "off"
OUTCOMES = ("served", "refused", "malformed", "opened", "failed")
"""The first three are of connections that other machines asked for, the others of those that this one asked them for."""

K = TypeVar("K", bound=Hashable)


class Connections:
    """Those that others open here, and those that we open, here or elsewhere."""

    def __init__(
        self, network: Network, hosting: Hosting, networks: PrivateNetworks, connect: Connect = connect
    ) -> None:
        self._network, self._hosting, self._networks, self._connect = network, hosting, networks, connect
        self._of_peer: Counter[PeerID] = Counter()
        self._of_ensemble: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        """Connections by outcome (:data:`OUTCOMES`), and ``bytes`` that were carried for others."""

    async def serve(self) -> None:
        """Take connections from peers, until cancelled."""
        self._network.streams.handle(PROTOCOL, self._on_stream)
        try:
            await trio.sleep_forever()
        finally:
            self._network.streams.unhandle(PROTOCOL)

    async def open(self, peer: PeerID, wanted: Wanted) -> Pipe:
        """A connection with an allocation on that machine, which may be this one.

        :raises NotConnected: it is refused, and why.
        :raises DMSError: the machine is not reached, or the connection broke.
        """
        if peer == self._network.peer_id:
            return await self._reach(wanted, peer)
        try:
            pipe = await dial(self._network.streams, peer, wanted)
        except PeerUnreachable as error:
            self.counts["failed"] += 1
            raise NotConnected(
                f"its machine takes no connections for it: {error.message}",
                hint="is it up, and of a version that forwards connections?",
            ) from None
        except DMSError:
            self.counts["failed"] += 1
            raise
        self.counts["opened"] += 1
        return pipe

    @property
    def serving(self) -> int:
        """How many connections of others are open here now."""
        return self._of_peer.total()

    # what peers ask for ----------------------------------------------------------------------------------------------

    async def _on_stream(self, stream: ByteStream) -> None:
        wanted: Wanted | None = None
        try:
            with trio.move_on_after(HEAD_S):
                wanted = decode_wanted(await read_head(stream))
        except BadPacket:
            self.counts["malformed"] += 1
        if wanted is None:
            await stream.reset()
            return
        try:
            with self._place(stream.peer, wanted.subnet):
                pipe = await self._reach(wanted, stream.peer)
                self.counts["served"] += 1
                try:
                    await stream.write(encode_answer(Answer(ok=True)))
                except BaseException:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                        await pipe.reset()
                    raise
                self.counts["bytes"] += await join(stream, pipe)
        except DMSError as error:
            await self._refuse(stream, error)

    async def _refuse(self, stream: ByteStream, error: DMSError) -> None:
        self.counts["refused"] += 1
        with trio.move_on_after(HEAD_S):
            await stream.write(encode_answer(Answer(ok=False, error=error.message, code=error.code)))

    @contextmanager
    def _place(self, peer: PeerID, ensemble: str) -> Iterator[None]:
        if self._of_peer[peer] >= MAX_OF_PEER or self._of_ensemble[ensemble] >= MAX_OF_ENSEMBLE:
            raise NotConnected("there are too many connections already", hint="close some of them")
        self._of_peer[peer] += 1
        self._of_ensemble[ensemble] += 1
        try:
            yield
        finally:
            _count_down(self._of_peer, peer)
            _count_down(self._of_ensemble, ensemble)

    async def _reach(self, wanted: Wanted, asking: PeerID) -> Pipe:
        allocation, private = self._find(wanted, asking)
        spec = allocation.spec
        net = await allocation.net()
        ports = {public: inside for public, inside in spec.ports.items() if public not in spec.udp_ports}
        is_owner = wanted.to == spec.id
        endpoints = await trio.to_thread.run_sync(
            lambda: endpoints_of(
                net,
                with_ports(net, ports),
                wanted.port,
                private=private if self._networks.mode == KERNEL else "",
                is_owner=is_owner,
                is_on_link=is_on_link,
            )
        )
        return await connect_to_first(endpoints, self._connect, wanted.port)

    def _find(self, wanted: Wanted, asking: PeerID) -> tuple[Allocation, str]:
        """The allocation that is meant, if the peer may know, and its address in the private network.

        :raises NotConnected: it may not, or there is none.
        """
        ensemble = EnsembleID(wanted.subnet)
        known = self._networks.find(ensemble)
        members = known.members if known is not None else {}
        meant, is_owner = wanted.to, True
        if _is_address(wanted.to):
            meant, is_owner = next((id_ for id_, address in members.items() if address == wanted.to), ""), False
        allocation = self._hosting.find(ensemble, meant) if meant else None
        if allocation is not None and allocation.spec.id == meant:
            is_orchestrator = allocation.spec.orchestrator.addr.host == asking
            is_member = known is not None and asking in known.table.values() and self._networks.mode != OFF
            if is_orchestrator or (is_member and not is_owner):
                return allocation, members.get(allocation.spec.id, "")
        raise NotConnected("nobody is here at this address whom you may talk with")


def _count_down(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
