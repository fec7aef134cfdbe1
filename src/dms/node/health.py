"""The health of a running node: looks at its parts every few seconds, and knows what is wrong with it.

What can be wrong is declared in :mod:`dms.node.warnings`, when it shows is decided by :mod:`dms.observe.health`; here it is
only found out. Looking costs little: nothing is written, and peers are asked rarely.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import trio
from sqlalchemy import text

from dms.hardware.clock import clock_state
from dms.node.clocks import WRONG_S, JumpWatch, ask_peers, behind_s
from dms.node.node import Node
from dms.node.warnings import (
    CLOCK_JUMPED,
    CLOCK_UNKEPT,
    CLOCK_WRONG,
    DATABASE_FAILS,
    DISK_FULL,
    DISK_LOW,
    GRANT_ENDS,
    NO_EXECUTOR,
    NO_PEERS,
    TASK_FAILS,
    WARNINGS,
)
from dms.observe import catalogue, get_logger
from dms.observe.health import Health, Severity, ShownWarning, Warnable
from dms.store import Store
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.units import format_bytes, format_duration

LOOK_INTERVAL_S = 10.0
MEASURE_TIMEOUT_S = 5.0
CLOCKS_INTERVAL_S = 300.0
CLOCKS_ASKED = 5
"""Peers whose clock is asked for, each time."""
LOW_BYTES, FULL_BYTES = 2 << 30, 256 << 20
GRANT_ENDS_NS = 3 * 86_400 * 10**9
NS_PER_S = 10**9
MAX_NAMED = 5

Measure = Callable[[], Awaitable[str | None]]
"""Finds out whether something is wrong: what, in a few words or none; ``None``: nothing."""

log = get_logger(__name__)


class WarningInfo(Wire):
    """A warning as others are told of it; ``since`` is RFC 3339."""

    code: str
    severity: str
    text: str
    hint: str = ""
    since: str = ""


class HealthWatch:
    """Looks and tells: to the log, as events, and to whoever asks.

    :param measures: by code of the warning; each has :data:`MEASURE_TIMEOUT_S`, and what fails is wrong itself.
    """

    def __init__(self, node: Node, measures: Mapping[str, Measure]) -> None:
        self._node = node
        self._measures = measures
        self._health = Health(WARNINGS)

    async def look(self) -> None:
        """Measure everything at once, then tell what has changed."""
        async with trio.open_nursery() as nursery:
            for code, measure in self._measures.items():
                nursery.start_soon(self._measure, code, measure)
        turn = self._health.turn(trio.current_time())
        events = self._node.root.events
        for warning in turn.appeared:
            kind = warning.kind
            tell = log.info if kind.severity is Severity.NOTE else log.warning
            tell("health_warning", code=kind.code, severity=kind.severity.value, text=warning.text, hint=kind.hint)
            events.emit(
                catalogue.HEALTH_WARNING,
                code=kind.code,
                severity=kind.severity.value,
                text=warning.text,
                hint=kind.hint,
            )
        for warning in turn.gone:
            log.info("health_recovered", code=warning.kind.code)
            events.emit(catalogue.HEALTH_RECOVERED, code=warning.kind.code)

    def warnings(self) -> tuple[WarningInfo, ...]:
        """What is wrong now, the worst first."""
        return tuple(self._info(warning) for warning in self._health.shown(trio.current_time()))

    async def _measure(self, code: str, measure: Measure) -> None:
        detail: str | None = f"no answer within {MEASURE_TIMEOUT_S:g} s"
        with trio.move_on_after(MEASURE_TIMEOUT_S):
            try:
                detail = await measure()
            except (DMSError, OSError) as exc:
                detail = str(exc)[:200]
        self._health.report(code, detail, trio.current_time())

    def _info(self, warning: ShownWarning) -> WarningInfo:
        ago_s = trio.current_time() - warning.since_s
        since = datetime.fromtimestamp(self._node.root.security.now_ns() / NS_PER_S - ago_s, UTC)
        return WarningInfo(
            code=warning.kind.code,
            severity=warning.kind.severity.value,
            text=warning.text,
            hint=warning.kind.hint,
            since=since.isoformat(timespec="seconds").replace("+00:00", "Z"),
        )


def measures_of(
    node: Node, store: Store, work_dir: Path, others: Mapping[Warnable, Callable[[], str | None]]
) -> Mapping[str, Measure]:
    """Everything that is looked at on a node that runs on a machine of its own; ``others`` look at what lies around it."""
    clocks = _Clocks(node)
    return {
        NO_PEERS.code: _plain(lambda: None if node.root.network.peers() else ""),
        CLOCK_JUMPED.code: clocks.jumped,
        CLOCK_WRONG.code: clocks.wrong,
        CLOCK_UNKEPT.code: _plain(lambda: "" if clock_state().is_synchronised is False else None),
        DISK_LOW.code: partial(_room_below, LOW_BYTES, work_dir),
        DISK_FULL.code: partial(_room_below, FULL_BYTES, work_dir),
        DATABASE_FAILS.code: partial(_database, store),
        NO_EXECUTOR.code: _plain(lambda: "" if node.onboarding.is_onboarded and not node.provider.executors else None),
        TASK_FAILS.code: _plain(lambda: failing_tasks(node)),
        GRANT_ENDS.code: _plain(lambda: ending_grants(node)),
        **{kind.code: _plain(look) for kind, look in others.items()},
    }


def failing_tasks(node: Node) -> str | None:
    """Tasks whose last run failed, and why."""
    failed = [
        f"{task.name} ({task.history[-1].error[:80]})"
        for task in node.tasks.tasks()
        if task.history and task.history[-1].error
    ]
    return "; ".join(failed[:MAX_NAMED]) or None


def ending_grants(node: Node) -> str | None:
    """Anchored grants that end within three days."""
    now_ns = node.root.security.now_ns()
    _, require, provide, _ = node.anchors.context.list_roots()
    ending = [
        f"of {token.levels[0].iss} in {format_duration((token.earliest_expiry_ns - now_ns) // NS_PER_S)}"
        for token in (*require.tokens, *provide.tokens)
        if token.is_well_formed and 0 < token.earliest_expiry_ns - now_ns < GRANT_ENDS_NS
    ]
    return ", ".join(ending[:MAX_NAMED]) or None


class _Clocks:
    """Our clock beside one that is never set, and now and then beside those of some peers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._jumps = JumpWatch()
        self._rng = random.Random(node.root.network.peer_id)  # noqa: S311  only chooses whom to ask
        self._asked_s = float("-inf")
        self._behind_s: float | None = None

    async def jumped(self) -> str | None:
        await trio.lowlevel.checkpoint()
        now_s = trio.current_time()
        if self._jumps.look(self._node.root.security.now_ns() / NS_PER_S, now_s):
            self._asked_s = float("-inf")  # who knows what it is now
        return self._jumps.detail(now_s)

    async def wrong(self) -> str | None:
        now_s = trio.current_time()
        if now_s - self._asked_s >= CLOCKS_INTERVAL_S:
            self._asked_s = now_s
            peers = sorted({info.peer for info in self._node.root.network.peers()})
            asked = self._rng.sample(peers, min(CLOCKS_ASKED, len(peers)))
            self._behind_s = behind_s(await ask_peers(self._node.root, asked))
        if self._behind_s is None or abs(self._behind_s) <= WRONG_S:
            return None
        return f"{abs(self._behind_s):.1f} s {'behind' if self._behind_s > 0 else 'ahead'}"


def _plain(look: Callable[[], str | None]) -> Measure:
    async def measure() -> str | None:
        await trio.lowlevel.checkpoint()
        return look()

    return measure


async def _room_below(limit_bytes: int, directory: Path) -> str | None:
    free = (await trio.to_thread.run_sync(shutil.disk_usage, directory)).free
    return f"{format_bytes(free)} free at {directory}" if free < limit_bytes else None


async def _database(store: Store) -> str | None:
    await store.run(lambda session: session.execute(text("SELECT 1")).scalar())
    return None
