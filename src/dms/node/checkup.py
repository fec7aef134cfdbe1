"""``/dms/node/doctor/checkup``: the running node looks at all its parts at once, for its owner. Ours."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import text

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.hardware.clock import ClockState, clock_state
from dms.hardware.inventory import Inventory
from dms.node.checks import Check, examine
from dms.node.clocks import WRONG_S, ClockSample, ask_peers, behind_s
from dms.node.diagnosis import Admits, Finding, note, ok, problem
from dms.node.doctor import who_is_admitted
from dms.node.doctor_payloads import DOCTOR_CHECKUP, CheckupReply, PeerReach
from dms.node.health import FULL_BYTES, LOW_BYTES, ending_grants, failing_tasks
from dms.node.live import LiveSettings
from dms.node.node import Node
from dms.node.reachability import examine_reach
from dms.store import Store
from dms.types.errors import DMSError
from dms.types.ids import PeerID
from dms.types.units import format_bytes

MAX_PEERS = 32
"""That are asked, at once."""
SLOW_DATABASE_S = 0.5
LOOPBACK = ("/ip4/127.", "/ip6/::1/")


class Checkup:
    """Everything that the node can find out about itself."""

    def __init__(
        self,
        node: Node,
        store: Store,
        work_dir: Path,
        *,
        missing: Mapping[str, str],
        inventory: Callable[[], Awaitable[Inventory]],
        live: LiveSettings | None = None,
        clock: Callable[[], ClockState] = clock_state,
    ) -> None:
        self._node = node
        self._store = store
        self._work_dir = work_dir
        self._missing = missing
        self._inventory = inventory
        self._live = live
        self._clock = clock
        self._peers: tuple[PeerReach, ...] = ()

    def register(self, actor: Actor) -> None:
        """Answer on the root actor."""
        actor.on(DOCTOR_CHECKUP, self._checkup, payload=Any, error_reply=lambda error: CheckupReply(error=error))

    async def _checkup(self, _message: Message[Any]) -> CheckupReply:
        return await self.run()

    async def run(self) -> CheckupReply:
        """All findings."""
        reaches: list[PeerReach] = []

        async def peers() -> Iterable[Finding]:
            found, told = await self._reach()
            reaches.extend(told)
            return found

        findings = await examine(
            [
                Check("ports", self._ports),
                Check("peers", peers, deadline_s=8.0),
                Check("reach", self._reachability),
                Check("disk", self._disk),
                Check("database", self._database),
                Check("executors", self._executors),
                Check("gpus", self._graphics),
                Check("authority", self._authority),
                Check("settings", self._settings),
                Check("tasks", self._tasks),
            ]
        )
        nearest = sorted(reaches, key=lambda reach: (reach.rtt_ms is None, reach.rtt_ms, reach.peer))
        return CheckupReply(ok=True, findings=findings, peers=tuple(nearest))

    async def _ports(self) -> Iterable[Finding]:
        await trio.lowlevel.checkpoint()
        addresses = [address.partition("/p2p/")[0] for address in self._node.root.network.listen_addresses]
        if not addresses:
            return (problem("ports", "the node listens nowhere", "set p2p.listen_address"),)
        told = ", ".join(addresses[:5])
        if all(address.startswith(LOOPBACK) for address in addresses):
            return (
                note("ports", f"only programs of this machine can reach the node: {told}", "set p2p.listen_address"),
            )
        return (ok("ports", f"listening on {told}"),)

    async def _reach(self) -> tuple[list[Finding], list[PeerReach]]:
        """Who is connected, how far away, and what time it is there."""
        network = self._node.root.network
        peers = sorted({info.peer for info in network.peers()})
        if not peers:
            hint = "check p2p.bootstrap_peers, the firewall, nunet peers"
            return [problem("peers", "the node is connected to nobody", hint), *self._own_clock()], []
        rtts: dict[PeerID, float] = {}
        samples: list[ClockSample] = []

        async def ping(peer: PeerID) -> None:
            try:
                rtts[peer] = await network.ping(peer, timeout_s=3.0)
            except DMSError:
                return

        async def clocks() -> None:
            samples.extend(await ask_peers(self._node.root, peers[:MAX_PEERS]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(clocks)
            for peer in peers[:MAX_PEERS]:
                nursery.start_soon(ping, peer)
        ahead = {sample.peer: sample.ahead_s for sample in samples}
        told = [
            PeerReach(peer=peer, rtt_ms=_ms(rtts.get(peer)), ahead_ms=_ms(ahead.get(peer)))
            for peer in peers[:MAX_PEERS]
        ]
        return [*_distances(len(peers), rtts), *self._own_clock(), *_clocks(samples)], told

    def _own_clock(self) -> Iterable[Finding]:
        state = self._clock()
        if state.is_synchronised is False:
            hint = "let something keep the clock right, such as chrony or systemd-timesyncd"
            yield note("clock", "nothing keeps the clock of this machine right, as far as its kernel knows", hint)
        elif state.is_synchronised:
            yield ok("clock", f"kept right, to {state.max_error_s:.3f} s")

    async def _reachability(self) -> Iterable[Finding]:
        await trio.lowlevel.checkpoint()
        network = self._node.root.network
        if all(address.startswith(LOOPBACK) for address in network.listen_addresses):
            return ()  # the ports tell
        found = examine_reach(network.reachability.report(), network.peers())
        return [finding for finding in found if finding.about == "reach"]

    async def _disk(self) -> Iterable[Finding]:
        free = (await trio.to_thread.run_sync(shutil.disk_usage, self._work_dir)).free
        told = f"{format_bytes(free)} free at {self._work_dir}"
        if free < FULL_BYTES:
            return (problem("disk", told, "free space, or move general.work_dir; nunet volume prune frees volumes"),)
        if free < LOW_BYTES:
            return (note("disk", told, "nunet volume prune frees volumes"),)
        return (ok("disk", told),)

    async def _database(self) -> Iterable[Finding]:
        begun = trio.current_time()
        await self._store.run(lambda session: session.execute(text("SELECT 1")).scalar())
        took_s = trio.current_time() - begun
        told = f"answers within {took_s * 1000:.1f} ms"
        slow = note("database", told, "see how busy the disk of general.work_dir is")
        return (slow if took_s > SLOW_DATABASE_S else ok("database", told),)

    async def _executors(self) -> Iterable[Finding]:
        await trio.lowlevel.checkpoint()
        there = sorted(self._node.provider.executors)
        first = (
            ok("executors", f"there: {', '.join(there)}")
            if there
            else problem("executors", "there is no executor: nothing can run here", "install Docker, or qemu")
        )
        hint = "install it, and start the node again"
        return (
            first,
            *(note("executors", f"{name} is not there: {why}", hint) for name, why in sorted(self._missing.items())),
        )

    async def _graphics(self) -> Iterable[Finding]:
        found = await self._inventory()
        names = [f"{gpu.vendor} {gpu.model}".strip() for gpu in found.gpus]
        told = [note("gpus", why, "nunet gpu list tells more; see the driver of the vendor") for why in found.problems]
        return (*told, ok("gpus", ", ".join(names) if names else "none"))

    async def _authority(self) -> Iterable[Finding]:
        await trio.lowlevel.checkpoint()
        found = []
        admits = who_is_admitted(self._node.root.security.capabilities)
        if admits is Admits.NOBODY:
            hint = "nunet cap anchor --require …, as in the guide to joining a network"
            found.append(note("authority", "nobody may ask this machine for bids", hint))
        else:
            others = " and others" if admits is Admits.OTHERS else ""
            found.append(ok("authority", f"the owner{others} may ask this machine for bids"))
        if ending := ending_grants(self._node):
            found.append(note("authority", f"a grant ends soon: {ending}", "ask who gave it for a new one"))
        return found

    async def _settings(self) -> Iterable[Finding]:
        await trio.lowlevel.checkpoint()
        if self._live is None:
            return ()
        if pending := self._live.needs_restart:
            told = f"changed in the file, and in force after a restart: {', '.join(pending)}"
            return (note("settings", told, "start the node again"),)
        live = len(self._live.values)
        return (ok("settings", f"as in the file and the environment, {live} set at run time" if live else "as given"),)

    async def _tasks(self) -> Iterable[Finding]:
        await trio.lowlevel.checkpoint()
        if failing := failing_tasks(self._node):
            return (note("tasks", f"failed at their last run: {failing}", "see the log"),)
        return (ok("tasks", f"{len(self._node.tasks.tasks())} go on"),)


def _distances(count: int, rtts: Mapping[PeerID, float]) -> Iterable[Finding]:
    connected = f"connected to {count} peer{'s' * (count != 1)}"
    if not rtts:
        yield problem(
            "peers", f"{connected}, of which none answers", "check the firewall, and the network of this machine"
        )
        return
    times_ms = sorted(rtt_s * 1000 for rtt_s in rtts.values())
    median = statistics.median(times_ms)
    told = f"{connected}; to the nearest and back {times_ms[0]:.1f} ms, in the middle {median:.1f}, at most {times_ms[-1]:.1f}"
    silent = min(count, MAX_PEERS) - len(rtts)
    yield note("peers", f"{told}; {silent} do not answer", "nunet peers") if silent else ok("peers", told)


def _clocks(samples: list[ClockSample]) -> Iterable[Finding]:
    behind = behind_s(samples)
    if behind is None:
        return
    if abs(behind) > WRONG_S:
        told = f"{abs(behind):.1f} s {'behind' if behind > 0 else 'ahead of'} the clocks of {len(samples)} peers"
        yield problem("clock", told, "set the clock, and let chrony or systemd-timesyncd keep it right")
        return
    yield ok("clock", f"as those of {len(samples)} peers, to {abs(behind) + max(s.rtt_s for s in samples) / 2:.2f} s")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
