import threading

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dms.observe.ring import Page, Ring


def ring(**bounds: int) -> Ring:
    return Ring(now_ns=lambda: 1_000_000, **bounds)


def values(page: Page) -> list[int]:
    return [item.value["n"] for item in page.items]


def test_numbers_begin_with_the_time_and_a_reader_gets_what_is_new() -> None:
    r = ring()
    for n in range(3):
        r.add({"n": n})
    first = r.page(0)
    assert (values(first), first.next_seq, first.missed) == ([0, 1, 2], 1003, 0)
    assert values(r.page(1001)) == [1, 2]
    assert values(r.page(first.next_seq)) == []
    assert values(r.page(-2)) == [1, 2]
    assert r.page(-2).next_seq == 1003


def test_the_oldest_is_dropped_and_a_slow_reader_is_told_how_many() -> None:
    r = ring(max_items=3)
    r.add({"n": 0})
    after = r.page(0).next_seq
    for n in range(1, 10):
        r.add({"n": n})
    page = r.page(after)
    assert (values(page), page.missed, len(r)) == ([7, 8, 9], 6, 3)


def test_bytes_are_bounded_too() -> None:
    r = ring(max_bytes=100)
    for n in range(10):
        r.add({"n": n, "text": "x" * 30})
    assert len(r) == 2
    r.add({"n": 10, "text": "x" * 1000})
    assert values(r.page(0)) == [10]
    r.add({"n": 11, "odd": object()})


def test_a_page_is_bounded_and_goes_on_where_it_ended() -> None:
    r = ring()
    for n in range(10):
        r.add({"n": n, "even": n % 2 == 0})
    page = r.page(0, limit=2, wanted=lambda value: bool(value["even"]))
    assert values(page) == [0, 2]
    assert values(r.page(page.next_seq, wanted=lambda value: bool(value["even"]))) == [4, 6, 8]
    assert values(r.page(0, max_bytes=1)) == [0]
    assert values(r.page(-3, limit=2)) == [8, 9]


async def test_a_reader_waits_for_what_another_thread_adds(autojump_clock: MockClock) -> None:
    r, woken = ring(), []

    async def read() -> None:
        await r.wait(r.last, 1000)
        woken.append(values(r.page(0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        thread = threading.Thread(target=r.add, args=({"n": 1},))
        thread.start()
        thread.join()
    assert woken == [[1]]
    before = trio.current_time()
    await r.wait(r.last, 7)
    assert trio.current_time() - before == 7
