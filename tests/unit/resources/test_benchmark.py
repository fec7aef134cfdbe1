import os
from pathlib import Path

import pytest
import trio

from dms.resources.benchmark import Benchmark, described
from dms.resources.benchmarks import Benchmarks
from dms.resources.measuring import measure, measure_sync
from dms.store import Store
from dms.testing.hardware import EIGHT_CORES
from dms.types import gojson


def test_a_real_machine_is_measured_in_the_time_given(tmp_path: Path) -> None:
    found = measure_sync(tmp_path, part_s=0.01, now=lambda: 5.0)
    assert found.measured_at == 5.0
    assert found.seconds > 0
    rates = (found.cpu_single_bps, found.cpu_all_bps, found.memory_copy_bps, found.loopback_bps)
    assert all(rate > 1 << 20 for rate in rates)
    assert found.disk_write_bps > 0
    assert found.disk_read_bps > 0
    assert 0 < found.disk_sync_s < 60
    assert 0 < found.loopback_rtt_s < 1
    assert list(tmp_path.iterdir()) == []
    assert gojson.decode(gojson.encode(found), Benchmark) == found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs /proc, which is nobody's to write into")
def test_a_disk_that_cannot_be_written_has_no_figures() -> None:
    found = measure_sync(Path("/proc"), part_s=0.001)
    assert (found.disk_write_bps, found.disk_read_bps, found.disk_sync_s) == (0, 0, 0)
    assert found.memory_copy_bps > 0


async def test_measuring_lets_others_run(tmp_path: Path) -> None:
    turns = 0
    async with trio.open_nursery() as nursery:

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.sleep(0.001)
                turns += 1

        nursery.start_soon(count)
        await measure(tmp_path, part_s=0.01)
        nursery.cancel_scope.cancel()
    assert turns > 1


def test_the_speed_of_the_disk_goes_with_the_resources() -> None:
    found = described(EIGHT_CORES, Benchmark(measured_at=1.0, seconds=1.0, disk_read_bps=7, disk_write_bps=3))
    assert (found.disk.read_speed, found.disk.write_speed, found.disk.size) == (7, 3, EIGHT_CORES.disk.size)
    assert described(EIGHT_CORES, None) is EIGHT_CORES


async def test_figures_are_kept_newest_first(tmp_path: Path) -> None:
    count = 0
    active = 0

    async def script() -> Benchmark:
        nonlocal count, active
        active += 1
        assert active == 1
        await trio.lowlevel.checkpoint()
        active -= 1
        count += 1
        return Benchmark(measured_at=float(count), seconds=1.0)

    async with await Store.open(tmp_path / "db.sqlite") as store:
        kept = Benchmarks(store, script)
        assert await kept.latest() is None
        assert await kept.history() == ()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(kept.run)
    async with await Store.open(tmp_path / "db.sqlite") as store:
        kept = Benchmarks(store, script)
        assert [found.measured_at for found in await kept.history()] == [3.0, 2.0, 1.0]
        assert (await kept.history(limit=1))[0] == await kept.latest()
