"""What is wrong with a node: found, told once, told as gone; whole nodes on the virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio
from trio.testing import MockClock

from dms.node import health as module
from dms.node.health import HealthWatch, Measure, failing_tasks, measures_of
from dms.node.warnings import PLUGIN_FAILS, RESTART_NEEDED, WARNINGS
from dms.observe.health import Health
from dms.store import Store
from dms.tasks import Interval
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode
from dms.types.errors import Unavailable


def watch_of(node: SimulatedNode, directory: Path, store: Store, **others: Measure) -> HealthWatch:
    around = {RESTART_NEEDED: lambda: "rest.port", PLUGIN_FAILS: lambda: None}
    measures: Mapping[str, Measure] = {
        code: measure
        for code, measure in measures_of(node.node, store, directory, around).items()
        # what threads find out does not go with a clock that jumps, and the kernel's view is that of the machine
        if code not in ("disk_low", "disk_full", "clock_unkept")
    }
    return HealthWatch(node.node, {**measures, **others})


def codes(watch: HealthWatch) -> list[str]:
    return [warning.code for warning in watch.warnings()]


def set_clock(node: SimulatedNode, by_s: int) -> None:
    """Somebody sets the clock of its machine."""
    security = node.node.root.security
    before = security.now_ns

    def now_ns() -> int:
        return before() + by_s * 10**9

    security.now_ns = now_ns  # type: ignore[method-assign]


def test_all_warnings_go_together_and_say_what_mends_them() -> None:
    assert set(Health(WARNINGS).declared) == {warning.code for warning in WARNINGS}
    assert all(warning.hint and warning.text for warning in WARNINGS)


async def test_a_lonely_node_complains_after_a_minute_until_somebody_comes(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    alice = await cluster.start("alice")
    async with await Store.open(None) as store:
        watch = watch_of(alice, tmp_path, store)
        await watch.look()
        assert codes(watch) == ["restart_needed"]
        assert watch.warnings()[0].text.endswith(": rest.port")
        await trio.sleep(61)
        await watch.look()
        assert codes(watch) == ["no_peers", "restart_needed"]
        assert watch.warnings()[0].since < watch.warnings()[0].since.replace("Z", "~")
        await cluster.start("bob")
        await trio.sleep(5)
        with alice.node.root.events.subscribe("health_recovered", "health_warning") as heard:
            await watch.look()
            assert (await anext(heard)).fields["code"] == "no_peers"
        assert codes(watch) == ["restart_needed"]


async def test_a_clock_that_jumps_is_told_for_ten_minutes(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob")
    async with await Store.open(None) as store:
        watch = watch_of(alice, tmp_path, store)
        await watch.look()
        set_clock(alice, -90)
        await watch.look()
        assert "clock_jumped" in codes(watch)
        told = {warning.code: warning.text for warning in watch.warnings()}
        assert told["clock_jumped"].endswith("by -90.0 s")
        await trio.sleep(601)
        await watch.look()
        assert "clock_jumped" not in codes(watch)


async def test_a_clock_that_is_not_that_of_the_peers_is_told(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    alice = await cluster.start("alice")
    others = [await cluster.start(name) for name in ("bob", "carol", "dave")]
    await trio.sleep(5)
    for other in others:
        set_clock(other, 8)
    async with await Store.open(None) as store:
        watch = watch_of(alice, tmp_path, store)
        await watch.look()
        told = {warning.code: warning.text for warning in watch.warnings()}
        assert told["clock_wrong"].endswith(": 8.0 s behind")


async def test_a_database_that_fails_and_a_measure_that_hangs_are_told(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    alice = await cluster.start("alice")
    store = await Store.open(None)
    await store.aclose()

    async def fails() -> str | None:
        raise Unavailable("no such disk")

    async def hangs() -> str | None:
        await trio.sleep_forever()

    watch = watch_of(alice, tmp_path, store, disk_full=fails, grant_ends=hangs)
    await watch.look()
    told = {warning.code: warning.text for warning in watch.warnings()}
    assert told["disk_full"].endswith(": no such disk")
    assert told["grant_ends"].endswith(": no answer within 5 s")
    assert "database_fails" not in told, "the full disk explains it"
    alone = watch_of(alice, tmp_path, store)
    await alone.look()
    assert codes(alone)[0] == "database_fails"


async def test_what_fails_again_and_again_is_named(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice", offers=FOUR_CORES)

    async def fails() -> None:
        raise Unavailable("the moon is down")

    assert failing_tasks(alice.node) is None
    alice.node.tasks.add("look at the moon", fails, Interval(10.0))
    await trio.sleep(15)
    assert failing_tasks(alice.node) == "look at the moon (the moon is down)"


async def test_a_disk_with_little_room_is_told_with_the_amount(tmp_path: Path) -> None:
    assert await module._room_below(1, tmp_path) is None
    told = await module._room_below(1 << 62, tmp_path)
    assert told is not None
    assert told.endswith(f"free at {tmp_path}")
