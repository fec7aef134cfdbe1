"""Direct connections between peers that both are behind routers (DCUtR, ``/libp2p/dcutr``).

They are connected through a relay. The one to whom the relay forwarded (here: the leader) first tries to dial the other.
Failing that, both tell each other where they are seen, the leader measures the round trip, and both dial at the same
moment from the port that they listen on: each router takes the other's packets for answers. On the connection that comes
of it the leader is the server, as both have dialled. What is new goes over it; the relayed one is closed a little later.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from multiaddr import Multiaddr

from dms.network.addresses import ip_of, is_plain_tcp
from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.libp2p.connections.sharing import SourceOf, dial_from
from dms.network.libp2p.connections.swarm import innermost
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.reach.connections import is_relayed
from dms.network.libp2p.reach.messages import DCUTR, HolePunch, PunchType
from dms.network.libp2p.reach.protobuf import read_message, write_message
from dms.network.libp2p.streams.opening import reset_shielded
from dms.network.reachability import IP

log = logging.getLogger(__name__)

TRIES = 3
IDENTIFY_S = 5.0
STEP_S = 10.0
"""How long the other may take for one step of the agreement."""
DIRECT_S = 5.0
PUNCH_S = 5.0
AGAIN_S = 0.1
"""A dial that is refused at once is tried again after this: the other's router did not expect us yet."""
GRACE_S = 10.0
"""The relayed connection lives on for so long: what is under way on it arrives."""
MAX_ADDRESSES = 4
MAX_AT_ONCE = 16


class HolePunching:
    """Both sides of it.

    :param addresses: public addresses at which we may be seen.
    :param source_of: the port of ours from which an address is dialled.
    """

    def __init__(
        self,
        host: GuardedHost,
        counters: Counter[str],
        *,
        addresses: Callable[[], Sequence[Multiaddr]],
        source_of: SourceOf,
        is_public: Callable[[IP], bool],
    ) -> None:
        self._host = host
        self._counters = counters
        self._addresses = addresses
        self._source_of = source_of
        self._is_public = is_public
        self._busy: set[ID] = set()

    def open(self) -> None:
        """Follow those who lead from now on."""
        self._host.set_stream_handler(TProtocol(DCUTR), self.follow)

    async def lead(self, peer: ID) -> None:
        """Get a direct connection to a peer that came through a relay, if there is a way; failures only log."""
        if peer in self._busy or len(self._busy) >= MAX_AT_ONCE:
            return
        self._busy.add(peer)
        try:
            if await self._dial_plainly(peer) or await self._punch(peer):
                await self._leave_relay(peer)
        except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
            log.debug("no direct connection to %s: %r", peer, error)
        finally:
            self._busy.discard(peer)

    async def follow(self, stream: INetStream) -> None:
        """Somebody leads; what this raises ends in a reset, by the guard around us."""
        peer = stream.muxed_conn.peer_id
        if not is_relayed(stream) or peer in self._busy or len(self._busy) >= MAX_AT_ONCE:
            await stream.reset()
            return
        self._busy.add(peer)
        try:
            for _ in range(TRIES):
                with trio.fail_after(STEP_S):
                    connect = HolePunch.decode(await read_message(receiver(stream)))
                    if connect.type != PunchType.CONNECT:
                        raise BadFrame("a hole punch begins with CONNECT")
                    await write_message(stream, HolePunch(PunchType.CONNECT, self._own()).encode())
                    if HolePunch.decode(await read_message(receiver(stream))).type != PunchType.SYNC:
                        raise BadFrame("after CONNECT comes SYNC")
                if await self._dial_together(peer, self._usable(connect.addresses), is_initiator=True):
                    break
            await stream.close()
        finally:
            self._busy.discard(peer)

    # leading ---------------------------------------------------------------------------------------------------------

    async def _dial_plainly(self, peer: ID) -> bool:
        """A peer that has public addresses may simply be dialled."""
        with trio.move_on_after(IDENTIFY_S):
            while not self._host.is_identified(peer):  # noqa: ASYNC110  it comes within a round trip or two
                await trio.sleep(0.05)
        try:
            addresses = self._usable(self._host.swarm.peerstore.addrs(peer))
        except PeerStoreError:
            addresses = ()
        if addresses and not self._is_direct(peer):
            with trio.move_on_after(DIRECT_S):
                try:
                    await self._host.swarm.dial_at(peer, addresses)
                except BaseLibp2pError as error:
                    log.debug("%s cannot be dialled directly: %s", peer, innermost(error))
        return self._is_direct(peer)

    async def _punch(self, peer: ID) -> bool:
        if not self._own():
            return False
        for _ in range(TRIES):
            stream = await self._host.new_stream(peer, [TProtocol(DCUTR)])
            try:
                with trio.fail_after(STEP_S):
                    begun_s = trio.current_time()
                    await write_message(stream, HolePunch(PunchType.CONNECT, self._own()).encode())
                    answer = HolePunch.decode(await read_message(receiver(stream)))
                    rtt_s = trio.current_time() - begun_s
                    if answer.type != PunchType.CONNECT:
                        raise BadFrame("CONNECT is answered with CONNECT")
                    await write_message(stream, HolePunch(PunchType.SYNC).encode())
                await trio.sleep(rtt_s / 2)
                self._counters["hole punches tried"] += 1
                if await self._dial_together(peer, self._usable(answer.addresses), is_initiator=False):
                    return True
            finally:
                await reset_shielded(stream)
        return False

    async def _leave_relay(self, peer: ID) -> None:
        self._counters["holes punched"] += 1
        log.info("connected to %s directly, no longer through a relay", peer)
        await trio.sleep(GRACE_S)
        conns: list[INetConn] = self._host.swarm.get_connections(peer)
        if any(not is_relayed(conn) for conn in conns):
            for conn in conns:
                if is_relayed(conn):
                    self._counters["relayed connections replaced"] += 1
                    await conn.close()

    # dialling --------------------------------------------------------------------------------------------------------

    async def _dial_together(self, peer: ID, addresses: Sequence[Multiaddr], *, is_initiator: bool) -> bool:
        """Dial while the other dials us, until either comes through."""
        with trio.move_on_after(PUNCH_S):
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    nursery.start_soon(self._dial_until, peer, address, is_initiator)
                while not self._is_direct(peer):  # noqa: ASYNC110  it may come in by the listening port as well
                    await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
        return self._is_direct(peer)

    async def _dial_until(self, peer: ID, address: Multiaddr, is_initiator: bool) -> None:  # noqa: FBT001  a task's argument
        source = self._source_of(address)
        while source is not None:
            try:
                raw = await dial_from(source, address)
                await self._host.swarm.adopt(raw, peer, address, is_initiator=is_initiator)
            except (BaseLibp2pError, OSError) as error:
                log.debug("dialling %s at %s: %s", peer, address, innermost(error))
                await trio.sleep(AGAIN_S)
                continue
            return

    def _is_direct(self, peer: ID) -> bool:
        return any(not is_relayed(conn) and not conn.is_closed for conn in self._host.swarm.get_connections(peer))

    def _own(self) -> tuple[Multiaddr, ...]:
        return tuple(self._addresses())[:MAX_ADDRESSES]

    def _usable(self, addresses: Sequence[Multiaddr]) -> tuple[Multiaddr, ...]:
        """Those that may be dialled for the sake of somebody whom we do not know."""
        bare = [Multiaddr(str(one).partition("/p2p/")[0]) for one in addresses if "/p2p-circuit" not in str(one)]
        public = [one for one in bare if is_plain_tcp(one) and self._is_public_address(one)]
        return tuple(dict.fromkeys(public))[:MAX_ADDRESSES]

    def _is_public_address(self, address: Multiaddr) -> bool:
        ip = ip_of(address)
        return ip is not None and self._is_public(ip)
