"""Packets that are sealed together: they open once and whole, or not at all, in whatever order their slices come."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.bundles import (
    FORGIVEN,
    HEAD_BYTES,
    MARK,
    MAX_BUNDLE_BYTES,
    MAX_LOOKS,
    MAX_OPEN,
    MAX_SLICES,
    MOST_PROVEN,
    PROVEN,
    Gathering,
    Losses,
    Run,
    is_slice,
    run_of,
    slices_of,
)
from dms.subnet.ciphers import SPAN_BITS, Suite
from dms.subnet.sealing import WINDOW, Opened, Opener, Sealer

KEY = bytes(range(32))
SIZE = 60


def slices(sealer: Sealer, body: bytes, size: int = SIZE) -> list[bytes]:
    sealed = sealer.seal_bundle(body, size)
    return [sealed[at : at + size] for at in range(0, len(sealed), size)]


def receives(datagrams: Sequence[bytes], size: int = SIZE) -> list[bytes]:
    """As a kernel hands them over: together, until one is shorter."""
    found, now = [], b""
    for datagram in datagrams:
        now += datagram
        if len(datagram) < size:
            found.append(now)
            now = b""
    return [*found, now] if now else found


def opened(opener: Opener, data: bytes, size: int = SIZE) -> Opened:
    """Of one such receive, taken as a node does."""
    view, at = memoryview(data), 0
    plain: list[bytes] = []
    bad = late = 0
    while at < len(view):
        take = opener.open_slices if is_slice(view, at) else opener.open_all
        found = take(view, at, size)
        assert found.end > at
        at, plain = found.end, plain + found.plain
        bad, late = bad + found.not_authentic, late + found.replayed
    return Opened(plain, at, bad, late)


bodies = st.lists(st.binary(min_size=1, max_size=900), min_size=1, max_size=5)


@pytest.mark.parametrize("suite", Suite)
@given(bodies, st.data())
def test_a_bundle_opens_once_if_all_of_it_comes_in_whatever_order(
    suite: Suite, whole: list[bytes], data: st.DataObject
) -> None:
    sealer, opener = Sealer(KEY, 1, suite), Opener(KEY, suite)
    sealer._counter = data.draw(st.sampled_from([0, (1 << SPAN_BITS) - 7, (1 << SPAN_BITS) - 40]))
    sent = [slices(sealer, body) for body in whole]
    order = [(bundle, number) for bundle, parts in enumerate(sent) for number in range(len(parts))]
    lost = data.draw(st.sets(st.sampled_from(order), max_size=3))
    again = data.draw(st.lists(st.sampled_from(order), max_size=5))
    arrived = [one for one in order if one not in lost] + again
    if data.draw(st.booleans()):
        arrived = data.draw(st.permutations(arrived))
    datagrams = [sent[bundle][number] for bundle, number in arrived]
    between = sealer.seal(3, b"x" * (SIZE - 33))
    datagrams.insert(data.draw(st.integers(0, len(datagrams))), between)
    found = [opened(opener, one) for one in receives(datagrams)]
    plain = [body for one in found for body in one.plain]
    come = {bundle: {number for one, number in arrived if one == bundle} for bundle in range(len(sent))}
    complete = [bundle for bundle, parts in enumerate(sent) if len(come[bundle]) == len(parts)]
    assert sorted(plain) == sorted([*(whole[bundle] for bundle in complete), b"\x03" + b"x" * (SIZE - 33)])
    assert not any(one.not_authentic for one in found)
    assert opener.received == 1 + sum(len(sent[bundle]) for bundle in complete)
    for bundle in complete:
        assert not [body for one in receives(sent[bundle]) for body in opened(opener, one).plain], "and never again"


@given(st.binary(min_size=1, max_size=900), st.integers(0, 10_000), st.integers(1, 255))
def test_a_bundle_with_one_changed_byte_does_not_open(body: bytes, at: int, change: int) -> None:
    opener, sealer = Opener(KEY), Sealer(KEY, 1)
    datagrams = slices(sealer, body)
    where = at % len(datagrams)
    changed = bytearray(datagrams[where])
    changed[at % len(changed)] ^= change
    for one in receives([*datagrams[:where], bytes(changed), *datagrams[where + 1 :]]):
        assert not opened(opener, one).plain
    assert opened(opener, sealer.seal(2, b"well")).plain == [b"\x02well"], "and it spoils nothing"
    assert opener.received == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    marked = bytearray(data.ljust(HEAD_BYTES + 1, b"."))
    marked[15] |= 0x80
    found = opened(Opener(KEY), bytes(marked))
    assert not found.plain


def test_slices_are_nothing_to_who_asks_for_datagrams_sealed_on_their_own() -> None:
    data, at = memoryview(b"".join(slices(Sealer(KEY, 1), b"body" * 50))), 0
    while at < len(data):
        found = Opener(KEY).open_all(data, at, SIZE)
        assert (found.plain, found.not_authentic) == ([], 1)
        assert found.end == min(at + SIZE, len(data))
        at = found.end


def test_what_comes_again_or_from_behind_the_window_is_replayed() -> None:
    sealer, opener = Sealer(KEY, 1), Opener(KEY)
    late, body = slices(sealer, b"late" * 50), slices(sealer, b"body" * 50)
    assert opened(opener, b"".join(body)).plain == [b"body" * 50]
    assert opened(opener, b"".join(body)).replayed == len(body)
    sealer._counter += WINDOW
    opened(opener, sealer.seal(0, b""))
    assert opened(opener, b"".join(late)).replayed == len(late)


def test_a_bundle_takes_a_counter_for_each_slice_and_one_key() -> None:
    sealer = Sealer(KEY, 1, Suite.AES)
    sealer._counter = (1 << SPAN_BITS) - 3
    datagrams = slices(sealer, b"b" * 400)
    counters = [int.from_bytes(one[8:16], "little") for one in datagrams]
    assert counters == [MARK | (1 << SPAN_BITS) + number for number in range(len(datagrams))]
    assert sealer._counter == (1 << SPAN_BITS) + len(datagrams)
    assert len(datagrams) == slices_of(400 + 16, SIZE)
    opener = Opener(KEY, Suite.AES)
    opened(opener, b"".join(datagrams))
    assert (opener.expected, opener.received) == ((1 << SPAN_BITS) + len(datagrams), len(datagrams))


@pytest.mark.parametrize(
    ("number", "total", "size"),
    [(0, 0, SIZE), (2, 2, SIZE), (0, MAX_SLICES + 1, SIZE), (0, MAX_SLICES, 1500), (5, 9, SIZE)],
)
def test_what_a_slice_says_of_itself_must_be_possible(number: int, total: int, size: int) -> None:
    """The last: of a bundle that would have begun before the first counter."""
    head = (1).to_bytes(8, "little") + (MARK | 3).to_bytes(8, "little")
    data = head + number.to_bytes(2, "little") + total.to_bytes(2, "little") + bytes(size)
    assert run_of(memoryview(data), 0, size) is None
    assert opened(Opener(KEY), data, size).not_authentic


def test_what_never_becomes_whole_takes_little_room_and_is_given_up() -> None:
    gathering, largest = Gathering(), bytes(MAX_BUNDLE_BYTES // 2)
    for first in range(0, 300, 3):
        assert gathering.add(Run(1, first, 0, 1, 3, 0), largest) is None
    assert len(gathering._open) == MAX_OPEN
    assert gathering.look() == 100 - MAX_OPEN
    assert [gathering.look() for _ in range(MAX_LOOKS)] == [MAX_OPEN, 0]
    assert not gathering._open
    for slices_now in range(1, 20):  # the same, each time with one slice more
        gathering.add(Run(1, 0, 0, slices_now, 30, 0), largest)
    assert sum(parts.size_bytes for parts in gathering._open.values()) <= 2 * MAX_BUNDLE_BYTES


def test_that_nothing_is_lost_must_be_proven_for_longer_each_time_that_it_was_wrong() -> None:
    losses, sent, came, took = Losses(), 0, 0, []
    for _ in range(9):
        since = 0
        while not losses.are_rare:
            sent, came, since = sent + PROVEN // 4, came + PROVEN // 4, since + PROVEN // 4
            losses.told(sent, came, probes=0)
        took.append(since)
        sent, came = sent + 50, came + 49
        losses.told(sent, came, probes=0)
        assert not losses.are_rare
    assert took == [PROVEN * factor for factor in (1, 2, 4, 8, 16, 32, 64, 64, 64)]
    assert took[-1] == MOST_PROVEN
    sent, came = sent + FORGIVEN * MOST_PROVEN, came + FORGIVEN * MOST_PROVEN
    losses.told(sent, came, probes=0)
    losses.told(sent + 1, came, probes=0)
    losses.told(sent + 1 + 2 * PROVEN, came + 2 * PROVEN, probes=0)
    assert losses.are_rare, "long ago is forgiven"


def test_what_is_lost_before_anything_was_proven_makes_it_no_harder() -> None:
    losses = Losses()
    for number in range(1, 100):
        losses.told(number * 100, number * 99, probes=0)
    losses.told(9900 + PROVEN, 9801 + PROVEN, probes=0)
    assert losses.are_rare


def test_probes_that_are_too_large_for_the_way_are_no_loss() -> None:
    losses = Losses()
    losses.told(PROVEN, PROVEN - 2, probes=2)
    losses.told(90, 0, probes=2)  # an older answer
    losses.told(PROVEN + 2, PROVEN, probes=2)
    assert losses.are_rare
    losses.told(PROVEN + 10, PROVEN + 7, probes=2)
    assert not losses.are_rare
