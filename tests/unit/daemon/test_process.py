from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing

from dms.app import Ready
from dms.daemon import process
from dms.daemon.errors import StartTookTooLong, StopTookTooLong
from dms.daemon.service_manager import ServiceManager
from dms.types.errors import BadInput
from dms.types.ids import PeerID

READY = Ready(PeerID("12D3"), "did:key:z", (), 9999)


class Recorded(ServiceManager):
    """Keeps what is told instead of telling it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.is_ready = trio.Event()

    def _tell(self, *lines: str) -> None:
        self.lines += lines
        self.is_ready.set()


async def orderly(stop: trio.Event, *, task_status: trio.TaskStatus[Ready], log: list[str], stop_s: float = 0) -> None:
    log.append("starts")
    task_status.started(READY)
    await stop.wait()
    await trio.sleep(stop_s)
    log.append("stopped")


async def lived(
    service: process.Serve, during: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM)
) -> tuple[Recorded, list[str]]:
    manager, resorts = Recorded(), list[str]()

    async def signal_when_ready() -> None:
        await manager.is_ready.wait()
        during()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(signal_when_ready)
        await process.run_until_signal(service, manager, lambda: resorts.append("last"))
        nursery.cancel_scope.cancel()
    return manager, resorts


async def test_a_signal_stops_it_in_order(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []
    manager, resorts = await lived(partial(orderly, log=log, stop_s=40))
    assert log == ["starts", "stopped"]
    assert [line for line in manager.lines if not line.startswith("MAINPID")] == [
        "READY=1",
        "STATUS=peer 12D3, REST on port 9999",
        "STOPPING=1",
        "STATUS=stopping",
    ]
    assert resorts == []


async def test_what_does_not_stop_in_time_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []
    manager, resorts = Recorded(), list[str]()
    with pytest.RaisesGroup(StopTookTooLong, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                process.run_until_signal,
                partial(orderly, log=log, stop_s=1e6),
                manager,
                lambda: resorts.append("last"),
            )
            await trio.testing.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGTERM)
    assert log == ["starts"]
    assert resorts == ["last"]


async def test_what_does_not_start_in_time_is_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async def hangs(stop: trio.Event, *, task_status: trio.TaskStatus[Ready]) -> None:
        await trio.sleep_forever()

    with pytest.RaisesGroup(StartTookTooLong, flatten_subgroups=True):
        await process.run_until_signal(hangs, Recorded(), list[str]().clear)


async def test_why_it_cannot_start_is_told_as_it_is() -> None:
    async def refuses(stop: trio.Event, *, task_status: trio.TaskStatus[Ready]) -> None:
        raise BadInput("no room")

    manager = Recorded()
    with pytest.RaisesGroup(pytest.RaisesExc(BadInput, match="no room"), flatten_subgroups=True):
        await process.run_until_signal(refuses, manager, list[str]().clear)
    assert manager.lines == []


async def test_a_second_signal_stops_at_once(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await lived(partial(orderly, log=log, stop_s=40), twice)
    assert log == ["starts"]
