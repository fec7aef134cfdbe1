from hypothesis import given
from hypothesis import strategies as st

from dms.observe.errors import DeliveryDenied, NotDelivered
from dms.observe.outbox import Outage, Outbox


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    box: Outbox[int] = Outbox(max_items=3, max_bytes=100)
    assert [box.offer(n, 40) for n in range(3)] == [True, True, False]
    assert box.offer(3, 20)
    assert not box.offer(4, 0)
    assert box.peek(9, 1000) == [0, 1, 3]
    assert (box.counts.dropped, box.size_bytes) == (2, 100)


def test_a_batch_is_bounded_and_holds_one_at_least() -> None:
    box: Outbox[str] = Outbox()
    for name in "abc":
        box.offer(name, 50)
    assert box.peek(2, 1000) == ["a", "b"]
    assert box.peek(9, 99) == ["a"]
    assert box.peek(9, 1) == ["a"]


def test_what_was_not_taken_stays_in_front_and_in_order() -> None:
    box: Outbox[str] = Outbox()
    for name in "abcde":
        box.offer(name, 10)
    box.settle(4, rejected=1, again=frozenset({1, 3}))
    assert box.peek(9, 1000) == ["b", "d", "e"]
    assert (box.counts.sent, box.counts.rejected, box.size_bytes) == (1, 1, 30)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=60))
def test_an_outbox_never_holds_more_than_it_may_and_counts_everything(steps: list[tuple[bool, int]]) -> None:
    box: Outbox[int] = Outbox(max_items=5, max_bytes=100)
    offered = 0
    for is_offer, size in steps:
        if is_offer:
            offered += 1
            box.offer(size, size)
        else:
            box.settle(len(box.peek(2, 50)))
        assert len(box) <= 5
        assert box.size_bytes == sum(box.peek(99, 10**6)) <= 100
    assert offered == box.counts.sent + box.counts.dropped + len(box)


def test_a_service_is_left_alone_for_longer_and_longer_and_never_given_up() -> None:
    outage = Outage(5.0)
    waits = [outage.failed(NotDelivered("gone"), 10.0 * n) for n in range(12)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300]
    assert outage.is_out
    assert outage.ended(1000.0) == 1000.0
    assert outage.ended(1001.0) is None
    assert outage.failed(DeliveryDenied(), 0) == 300.0


def test_an_outage_is_said_once_in_five_minutes() -> None:
    outage = Outage()
    assert [outage.is_worth_saying(float(now)) for now in (0, 1, 299, 300, 301, 600)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
