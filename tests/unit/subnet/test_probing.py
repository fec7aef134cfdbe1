from __future__ import annotations

import itertools

from dms.subnet.probing import KEEP_EVERY_S, REST_S, SEARCH_EVERY_S, SEARCHES, SILENT_S, SIZES_BYTES, Probe, Prober, Way

NEAR, FAR = ("192.0.2.1", 9000), ("198.51.100.1", 9000)


def prober(*candidates: tuple[str, int]) -> Prober:
    numbers = itertools.count()
    return Prober(candidates or (NEAR, FAR), token=lambda size: next(numbers).to_bytes(size))


def pick(probes: list[Probe], address: tuple[str, int], size: int) -> Probe:
    return next(probe for probe in probes if probe.address == address and probe.size_bytes == size)


def test_every_address_is_tried_with_every_size_and_after_some_searches_less_often() -> None:
    one, now_s, times = prober(), 0.0, []
    for _ in range(SEARCHES + 1):
        probes = one.due(now_s)
        assert {(probe.address, probe.size_bytes) for probe in probes} == {
            (a, s) for a in (NEAR, FAR) for s in SIZES_BYTES
        }
        assert one.due(now_s) == []
        times.append(one.next_s(now_s) - now_s)
        now_s = one.next_s(now_s)
    assert times == [SEARCH_EVERY_S] * (SEARCHES - 1) + [REST_S, SEARCH_EVERY_S]


def test_the_first_answer_is_the_way_and_larger_ones_raise_its_size() -> None:
    one = prober()
    probes = one.due(0)
    assert one.way(0) is None
    one.answered(pick(probes, FAR, 1190).token, 0.1)
    assert one.way(0.1) == Way(FAR, 1190)
    assert one.rtt_s == 0.1
    one.answered(pick(probes, FAR, 1420).token, 0.2)
    assert one.way(0.2) == Way(FAR, 1420)
    one.answered(pick(probes, FAR, 1380).token, 0.2)
    one.answered(pick(probes, NEAR, 1420).token, 0.3)
    one.answered(b"never sent", 0.3)
    assert one.way(0.3) == Way(FAR, 1420), "neither a smaller size nor another address changes a way that works"
    assert one.due(1) == []
    assert [(p.address, p.size_bytes) for p in one.due(one.next_s(1))] == [(FAR, 1420)]


def test_a_way_that_takes_small_packets_is_tried_with_the_next_size() -> None:
    one = prober(NEAR)
    one.answered(pick(one.due(0), NEAR, 1190).token, 0)
    assert [probe.size_bytes for probe in one.due(KEEP_EVERY_S)] == [1190, 1310]


def test_a_way_that_falls_silent_is_given_up_and_searched_anew() -> None:
    one = prober(NEAR)
    one.answered(pick(one.due(0), NEAR, 1420).token, 0)
    assert one.way(SILENT_S) is not None
    assert one.way(SILENT_S + 0.1) is None
    assert len(one.due(SILENT_S + 0.1)) == len(SIZES_BYTES)
    assert one.rtt_s is None


def test_an_address_that_is_learned_is_tried_at_once() -> None:
    one = prober(NEAR)
    one.due(0)
    one.add(FAR)
    assert {probe.address for probe in one.due(0)} == {NEAR, FAR}
    one.add(FAR)
    assert one.due(0) == []


def test_what_the_kernel_says_about_the_size_is_believed() -> None:
    one = prober(NEAR)
    one.too_large(1420)
    one.answered(pick(one.due(0), NEAR, 1420).token, 0)
    one.too_large(1420)
    assert one.way(0) == Way(NEAR, 1380)
    one.too_large(1420)
    one.too_large(1190)
    assert one.way(0) == Way(NEAR, 1380)
