import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dms.observe import Event, EventBus, EventKind, Subscription


def kind(name: str) -> EventKind:
    return EventKind(name, "for a test", is_open=True)


async def names(subscription: Subscription) -> str:
    subscription.close()
    return " ".join([event.name async for event in subscription])


async def test_subscribers_get_what_happens_after_they_came() -> None:
    bus = EventBus(now=lambda: 7.0)
    bus.emit(kind("before"))
    with bus.subscribe() as everything, bus.subscribe("b", "c") as some:
        bus.emit(kind("a"), x=1, event="shadowing is fine")
        bus.emit(kind("b"))
        first = await anext(everything)
        assert (first.name, first.at, first.fields) == ("a", 7.0, {"x": 1, "event": "shadowing is fine"})
        assert await names(everything) == "b"
        assert await names(some) == "b"
    assert bus.subscribers == 0


async def test_a_waiting_reader_is_woken_by_an_event_and_by_closing() -> None:
    bus = EventBus()
    seen: list[str] = []
    subscription = bus.subscribe()

    async def read() -> None:
        seen.extend([event.name async for event in subscription])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        bus.emit(kind("a"))
        await wait_all_tasks_blocked()
        bus.emit(kind("b"))
        subscription.close()
    assert seen == ["a", "b"]
    bus.emit(kind("c"))
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)


async def test_a_slow_subscriber_loses_the_oldest_and_nobody_else_does() -> None:
    bus = EventBus()
    slow, fast = bus.subscribe(capacity=2), bus.subscribe()
    for name in "abcd":
        bus.emit(kind(name))
    assert slow.dropped == 2
    assert fast.dropped == 0
    assert await names(slow) == "c d"
    assert await names(fast) == "a b c d"
    with pytest.raises(ValueError, match="at least 1"):
        bus.subscribe(capacity=0)


async def test_a_cancelled_reader_loses_nothing() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    with trio.move_on_after(0):
        await anext(subscription)
    bus.emit(kind("a"))
    assert (await anext(subscription)).name == "a"


def test_listeners_are_called_at_once_and_fields_that_nobody_declared_are_noted() -> None:
    bus, seen = EventBus(now=lambda: 1.0), list[Event]()
    stop = bus.listen(seen.append)
    declared = EventKind("a", "for a test", {"x": "a number"})
    bus.emit(declared, x=1)
    assert bus.undeclared == {}
    bus.emit(declared, x=1, y=2)
    stop()
    bus.emit(declared)
    assert [event.fields for event in seen] == [{"x": 1}, {"x": 1, "y": 2}]
    assert bus.undeclared == {"a": {"y"}}
