"""Tasks that strangers could make fail."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.network.libp2p.services import RESTART_S, persist


async def test_a_task_that_fails_is_counted_and_run_again(autojump_clock: MockClock) -> None:
    begun, failures = list[float](), list[None]()

    async def stumble() -> None:
        begun.append(trio.current_time())
        if len(begun) < 3:
            raise ValueError("what nobody thought of")

    started_s = trio.current_time()
    await persist(stumble, on_failure=lambda: failures.append(None))
    assert [at_s - started_s for at_s in begun] == [0, RESTART_S, 2 * RESTART_S]
    assert len(failures) == 2


async def test_a_task_that_is_cancelled_ends() -> None:
    with trio.move_on_after(0) as scope:
        await persist(trio.sleep_forever, on_failure=lambda: None)
    assert scope.cancelled_caught
