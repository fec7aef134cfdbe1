from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from dms.observe import Event, EventBus
from dms.observe.errors import DeliveryDenied, NotDelivered
from dms.observe.outbox import Outbox
from dms.observe.shipper import Delivered, Shipper


class Service:
    """Takes what is sent, unless told otherwise."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.attempts = 0
        self.trouble: Exception | None = None
        self.answer_s = 0.0

    async def deliver(self, batch: Sequence[int]) -> Delivered:
        self.attempts += 1
        await trio.sleep(self.answer_s)
        if self.trouble is not None:
            raise self.trouble
        self.taken += batch
        return Delivered()


def shipper(service: Service, bus: EventBus, *, max_items: int = 100) -> Shipper[int]:
    return Shipper("elastic", Outbox(max_items=max_items), service.deliver, bus)


async def test_what_waits_is_delivered_every_few_seconds_in_order(autojump_clock: MockClock) -> None:
    service = Service()
    output = shipper(service, EventBus())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        for n in range(32):
            output.outbox.offer(n, 1)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert service.taken == list(range(32))
    assert service.attempts == 6 + 1  # what was left was sent at the end


async def test_a_collector_that_is_down_for_an_hour_costs_what_finds_no_room_and_nothing_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    service, heard = Service(), list[Event]()
    bus = EventBus(now=trio.current_time)
    bus.listen(heard.append)
    output = shipper(service, bus)
    service.trouble = NotDelivered("connection refused")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        for n in range(3600):
            output.outbox.offer(n, 1)
            assert len(output.outbox) <= 100
            await trio.sleep(1)
        assert 10 <= service.attempts <= 25  # not one every five seconds
        assert [record.getMessage() for record in caplog.records].count("output_lost") <= 13
        service.trouble = None
        await trio.sleep(400)
        output.outbox.offer(3600, 1)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert service.taken == [*range(100), 3600]
    assert output.outbox.counts.dropped == 3500
    assert [event.name for event in heard] == ["output_lost", "output_recovered"]
    assert heard[1].fields["dropped"] == 3500
    assert 3600 <= float(str(heard[1].fields["outage_s"])) <= 4000
    assert bus.undeclared == {}


async def test_refused_credentials_are_tried_again_every_five_minutes(autojump_clock: MockClock) -> None:
    service = Service()
    service.trouble = DeliveryDenied()
    output = shipper(service, EventBus())
    output.outbox.offer(1, 1)
    with trio.move_on_after(3601):
        await output.run()
    assert service.attempts == 12


async def test_a_service_that_is_slow_holds_up_nobody(autojump_clock: MockClock) -> None:
    service = Service()
    service.answer_s = 100
    output = shipper(service, EventBus(), max_items=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        before = trio.current_time()
        await trio.sleep(6)
        for n in range(50):
            output.outbox.offer(n, 1)
        assert trio.current_time() - before == 6
        await trio.sleep(250)
        nursery.cancel_scope.cancel()
    assert service.taken == list(range(10))
    assert output.outbox.counts.dropped == 40


async def test_an_output_with_a_defect_does_not_end_the_node(autojump_clock: MockClock) -> None:
    service = Service()
    service.trouble = ZeroDivisionError("a defect")
    output = shipper(service, EventBus())
    output.outbox.offer(1, 1)
    with trio.move_on_after(30):
        await output.run()
    assert output.outage.is_out
    assert len(output.outbox) == 1


async def test_what_is_not_taken_of_a_batch_is_sent_again(autojump_clock: MockClock) -> None:
    sent: list[list[int]] = []

    async def deliver(batch: Sequence[int]) -> Delivered:
        sent.append(list(batch))
        await trio.lowlevel.checkpoint()
        return Delivered(rejected=1, why="no such field", again=frozenset({2})) if len(sent) == 1 else Delivered()

    output: Shipper[int] = Shipper("elastic", Outbox(), deliver, EventBus())
    for n in range(4):
        output.outbox.offer(n, 1)
    with trio.move_on_after(30):
        await output.run()
    assert sent == [[0, 1, 2, 3], [2]]
    assert (output.outbox.counts.sent, output.outbox.counts.rejected) == (3, 1)
