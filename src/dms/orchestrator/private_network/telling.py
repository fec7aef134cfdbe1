"""The machines of an ensemble are told what they must know of its private network, again whenever that changes.

What is planned is compared with what each machine was told last. So there is one way for everything: the first start, a node
that is placed anew, a promotion, an update, an orchestrator that comes back, a machine that could not be reached for a while.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from dms.actor.handle import Handle
from dms.allocation.messages import NAMESPACE as _ALLOCATION
from dms.orchestrator import messages
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.insisting import insist
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState
from dms.orchestrator.private_network.plan import View, views
from dms.orchestrator.udp_ports import udp_ports
from dms.subnet import messages as m
from dms.types.errors import DMSError
from dms.types.ids import PeerID

TELL_TIMEOUT_S = 15.0
REPORT_TIMEOUT_S = 5.0
ASK_S = 3.0
"""How long the first of a deployment waits for machines that do not answer."""
LULL_S = 0.2
"""Changes come in bursts; machines are told after the first of them, and then so much later of the others."""
MAX_TOLD_AT_ONCE = 4
"""Times that a machine may answer that it knows of something later; then it is told as if it had failed."""
MAX_REVISION = 1 << 62
"""More than any clock tells in nanoseconds."""
RETRY_FIRST_S = 2.0
RETRY_MAX_S = 60.0
AT_ONCE = 32
KERNEL = "kernel"
"""What a machine says whose allocations have addresses of their own."""


class Teller:
    """Tells the machines of one deployment."""

    def __init__(
        self,
        context: Callable[[], Context],
        state: Callable[[], DeploymentState],
        changed: Callable[[], trio.Event],
        own: Callable[[], Handle | None] = lambda: None,
    ) -> None:
        self._context, self._state, self._changed, self._own = context, state, changed, own
        self._told: dict[PeerID, m.CreateRequest] = {}
        self._busy: set[PeerID] = set()
        self._modes: dict[PeerID, str] = {}
        self._problems: dict[PeerID, str] = {}
        self._locks: dict[PeerID, trio.Lock] = {}
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._revisions: dict[PeerID, int] = {}
        """What each machine was told last; its own, as it may say that it knows a later one."""
        self._by_stream: dict[PeerID, tuple[str, ...]] = {}
        self._asked: set[PeerID] = set()
        self._heard = trio.Event()
        """Set and replaced when a machine says what the others have to know."""

    async def tell(self, peer: PeerID) -> str:
        """Until a machine knows what is planned now, and how the others take part, as far as these say so soon; what is wrong,
        if it does not take it."""
        await self._ask_all()
        return await self._tell_one(peer)

    async def _ask_all(self) -> None:
        """How each machine takes part: by packets or by streams only. What begins before that is known tries in vain."""
        unasked = [peer for peer in self._views() if peer not in self._asked]
        self._asked.update(unasked)
        if len(self._views()) > 1:
            with trio.move_on_after(ASK_S):
                async with trio.open_nursery() as nursery:
                    for peer in unasked:
                        nursery.start_soon(self._tell_one, peer)

    async def _tell_one(self, peer: PeerID) -> str:
        async with self._locks.setdefault(peer, trio.Lock()):
            view = self._views().get(peer)
            if view is None or self._told.get(peer) == view.request:
                return ""
            try:
                async with self._limit:
                    problem = await self._tell(view, self._told.get(peer))
            except DMSError as exc:
                problem = exc.message
            if not problem:
                self._told[peer] = view.request
            return problem

    def address(self, record: AllocationRecord) -> str:
        """Of an allocation that is reached there; empty where its machine gives it none."""
        network = self._state().network
        if network is None or record.is_over or self._modes.get(record.peer) != KERNEL:
            return ""
        return network.addresses.get(record.id, "")

    def problem(self, record: AllocationRecord) -> str:
        """Why no allocation has an address where this one is; empty where they do."""
        network = self._state().network
        if network is None or record.id not in network.addresses or self._modes.get(record.peer, KERNEL) == KERNEL:
            return ""
        return self._problems.get(record.peer) or "its machine makes no devices"

    async def run(self) -> None:
        """Keep every machine informed, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                changed, heard = self._changed(), self._heard
                planned = self._views()
                self._told = {peer: request for peer, request in self._told.items() if peer in planned}
                for peer, view in planned.items():
                    if peer not in self._busy and self._told.get(peer) != view.request:
                        self._busy.add(peer)
                        nursery.start_soon(self._keep_telling, peer)
                await trio.sleep(LULL_S)
                await _either(changed, heard)

    async def _keep_telling(self, peer: PeerID) -> None:
        """Until it takes it, or has no part any more."""
        wait_s = RETRY_FIRST_S
        try:
            while not self._is_told(peer):  # it may have changed while it was told
                problem = await self._tell_one(peer)
                if problem:
                    await self._context().note("network_untold", {"peer": peer, "reason": problem})
                    await trio.sleep(wait_s)
                    wait_s = min(2 * wait_s, RETRY_MAX_S)
        finally:
            self._busy.discard(peer)

    def _is_told(self, peer: PeerID) -> bool:
        view = self._views().get(peer)
        return view is None or self._told.get(peer) == view.request

    def names(self) -> dict[str, str]:
        """The addresses of all names, as planned now."""
        return next((dict(view.request.records) for view in self._views().values()), {})

    async def reports(self) -> dict[PeerID, m.NetworkReport]:
        """What each machine knows of the network, and what passed there."""
        ctx, found = self._context(), dict[PeerID, m.NetworkReport]()

        async def ask(peer: PeerID, view: View) -> None:
            request = m.SubnetRequest(subnet_id=ctx.ensemble)
            behaviour = m.of_ensemble(ctx.ensemble, "status")
            try:
                found[peer] = await ctx.actor.invoke(
                    view.handle, behaviour, request, m.NetworkReport, timeout_s=REPORT_TIMEOUT_S
                )
            except DMSError as exc:
                found[peer] = m.NetworkReport(error=exc.message)

        async with trio.open_nursery() as nursery:
            for peer, view in self._views().items():
                nursery.start_soon(ask, peer, view)
        return dict(sorted(found.items()))

    def _views(self) -> dict[PeerID, View]:
        ctx = self._context()
        return views(ctx.ensemble, self._state(), ctx.whole or ctx.config, self._own(), self._by_stream)

    async def _tell(self, view: View, before: m.CreateRequest | None) -> str:
        """What is wrong, if anything."""
        ctx = self._context()
        behaviour = m.of_ensemble(ctx.ensemble, "create")
        peer = view.handle.addr.host
        for _ in range(MAX_TOLD_AT_ONCE):
            revision = max(self._revisions.get(peer, 0) + 1, ctx.actor.security.now_ns())
            request = msgspec.structs.replace(view.request, revision=revision)
            reply = await insist(ctx.actor, view.handle, behaviour, request, m.CreateReply, timeout_s=TELL_TIMEOUT_S)
            if revision < reply.revision < MAX_REVISION:  # this machine's clock was set back since
                self._revisions[peer] = reply.revision
                continue
            self._revisions[peer] = revision
            if reply.revision:
                if not reply.ok:
                    return reply.error
                await self._learn(view, reply)
                return ""
            if not reply.ok and before is None:
                return reply.error
            self._modes[peer] = KERNEL
            return await self._tell_original(view, before)
        return "it claims to know of something later, whatever it is told"

    async def _learn(self, view: View, reply: m.CreateReply) -> None:
        """How a machine takes part; once why it does so in part only."""
        peer = view.handle.addr.host
        self._modes[peer] = reply.mode
        if self._by_stream.get(peer, ()) != reply.by_stream:
            self._by_stream[peer] = reply.by_stream
            self._heard.set()
            self._heard = trio.Event()
        if reply.reason and self._problems.get(peer) != reply.reason:
            await self._context().note("no_private_address", {"peer": peer, "reason": reply.reason})
        self._problems[peer] = reply.reason

    async def _tell_original(self, view: View, before: m.CreateRequest | None) -> str:
        """The rest, for a machine that takes it one by one; what it has already it says, and that is fine."""
        ensemble, request = self._context().ensemble, view.request
        gone = {
            ip: peer
            for ip, peer in (before.routing_table if before else {}).items()
            if request.routing_table.get(ip) != peer
        }
        names = tuple(name for name in (before.records if before else {}) if name not in request.records)
        for record in view.members:
            address = request.members[record.id]
            asked: list[tuple[str, object]] = [
                (m.ADD_PEER, m.PeerRequest(subnet_id=ensemble, peer=record.peer, ip=address)),
                (m.ADD_RECORDS, m.RecordsRequest(subnet_id=ensemble, records=request.records)),
                *((m.MAP_PORT, each) for each in self._port_requests(record, address)),
            ]
            if before is not None:
                asked.append((m.ACCEPT_PEERS, m.PeersRequest(subnet_id=ensemble, table=request.routing_table)))
            if gone:
                asked.insert(0, (m.REMOVE_PEERS, m.PeersRequest(subnet_id=ensemble, table=gone)))
            if names:
                asked.insert(0, (m.REMOVE_RECORDS, m.NamesRequest(subnet_id=ensemble, names=names)))
            for behaviour, payload in asked:
                problem = await self._ask(record, behaviour, payload)
                if problem:
                    return problem
        return ""

    def _port_requests(self, record: AllocationRecord, address: str) -> list[m.PortRequest]:
        """Both ports are the public one: what runs there publishes it at its own address."""
        ctx = self._context()
        udp = udp_ports(ctx.whole or ctx.config, record)
        return [
            m.PortRequest(
                subnet_id=ctx.ensemble,
                protocol="UDP" if public in udp else "TCP",
                source_port=public,
                dest_ip=address,
                dest_port=public,
            )
            for public in record.ports
        ]

    async def _ask(self, record: AllocationRecord, behaviour: str, payload: object) -> str:
        if record.handle is None:
            return ""
        actor = self._context().actor
        reply = await actor.invoke(record.handle, behaviour, payload, messages.Reply, timeout_s=TELL_TIMEOUT_S)
        return "" if reply.ok or "already" in reply.error else f"{behaviour.removeprefix(_ALLOCATION)}: {reply.error}"


async def _either(one: trio.Event, other: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)
