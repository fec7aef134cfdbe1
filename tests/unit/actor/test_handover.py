"""A coroutine that is run in place, and that tells when it waits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.actor.handover import run_telling


async def at_once(value: int) -> int:
    return value


async def waits(value: int) -> int:
    await trio.sleep(1)
    await trio.sleep(2)
    return value


async def fails_after(seconds: float) -> None:
    if seconds:
        await trio.sleep(seconds)
    raise ValueError(str(seconds))


async def test_what_does_not_wait_tells_nothing(autojump_clock: MockClock) -> None:
    told: list[float] = []
    assert await run_telling(at_once(3), lambda: told.append(trio.current_time())) == 3
    assert told == []


async def test_what_waits_tells_once_and_goes_on_in_the_same_task(autojump_clock: MockClock) -> None:
    told, start = list[float](), trio.current_time()
    assert await run_telling(waits(3), lambda: told.append(trio.current_time())) == 3
    assert told == [start]
    assert trio.current_time() == start + 3


@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_what_it_raises_comes_out(autojump_clock: MockClock, seconds: float) -> None:
    with pytest.raises(ValueError, match=str(seconds)):
        await run_telling(fails_after(seconds), lambda: None)


async def test_cancellation_reaches_it_and_it_may_still_answer(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    async def cleans_up() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append("cancelled")
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            seen.append("cleaned up")
            raise

    with trio.move_on_after(5) as scope:
        await run_telling(cleans_up(), lambda: seen.append("waits"))
    assert scope.cancelled_caught
    assert seen == ["waits", "cancelled", "cleaned up"]
