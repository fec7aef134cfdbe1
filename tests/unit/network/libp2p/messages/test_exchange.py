"""What is under way on a kept stream, without one."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.network import MAX_LARGE_MESSAGE_BYTES, BadFrame
from dms.network.libp2p.messages.exchange import (
    MAX_UNANSWERED,
    MAX_UNANSWERED_BYTES,
    PIECE_BYTES,
    Exchange,
    Incoming,
    Outgoing,
)
from dms.network.libp2p.messages.frames import (
    FIRST,
    LAST,
    MAX_NAME_BYTES,
    MAX_NAMES,
    SIZE,
    Deframer,
    Kind,
    Status,
    encode,
)

PACKET = 65507


class Side:
    """One side of a stream, which accepts everything at once."""

    def __init__(self, *, admit: Status = Status.ACCEPTED) -> None:
        self.taken = 0
        self.admit = admit
        self.exchange = Exchange(self._admit, self._release)
        self.got: list[tuple[str, bytes]] = []
        self.ended: list[Outgoing] = []

    def _admit(self, _inbox: str, size: int) -> Status:
        self.taken += size if self.admit is Status.ACCEPTED else 0
        return self.admit

    def _release(self, size: int) -> None:
        self.taken -= size

    def send(self, inbox: str, data: bytes) -> Outgoing:
        message = Outgoing(inbox, data, trio.Event())
        self.exchange.offer(message)
        return message

    def feed(self, data: bytes, *, status: Status = Status.ACCEPTED) -> None:
        for event in self.exchange.receive(data):
            if isinstance(event, Outgoing):
                self.ended.append(event)
            else:
                self.got.append((event.inbox, event.data))
                self.exchange.answer(event, status)


def settle(a: Side, b: Side) -> None:
    """Carry everything over, in both directions."""
    while a.exchange.has_output or b.exchange.has_output:
        b.feed(a.exchange.output(PACKET))
        a.feed(b.exchange.output(PACKET))


def number_frames(data: bytes) -> list[int]:
    return [frame.number for frame in Deframer().feed(data) if frame.kind == Kind.DATA]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.sampled_from([1, 20, 1000, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5]), max_size=20),
)
def test_everything_arrives_whole_and_each_inbox_in_order(seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    a, b = Side(), Side()
    sent: dict[int, dict[str, list[bytes]]] = {0: defaultdict(list), 1: defaultdict(list)}
    wire = {0: bytearray(), 1: bytearray()}
    todo = [(rng.randrange(2), f"inbox {rng.randrange(3)}", rng.randbytes(size)) for size in sizes]
    while todo or any(wire.values()) or a.exchange.has_output or b.exchange.has_output:
        which = rng.randrange(2)
        one, other = ((a, b), (b, a))[which]
        if todo and rng.random() < 0.5:
            side, inbox, data = todo.pop()
            (a, b)[side].send(inbox, data)
            sent[side][inbox].append(data)
        wire[which] += one.exchange.output(rng.choice([1, 500, PACKET]))
        count = rng.choice([1, 100, 1 << 20])
        other.feed(bytes(wire[which][:count]))
        del wire[which][:count]

    for side, receiver in ((0, b), (1, a)):
        got = defaultdict(list)
        for inbox, data in receiver.got:
            got[inbox].append(data)
        assert got == sent[side]
    assert all(message.status is Status.ACCEPTED for message in a.ended + b.ended)
    assert len(a.ended + b.ended) == len(sizes)
    assert a.exchange.is_quiet
    assert b.exchange.is_quiet
    assert a.taken == b.taken == 0


def test_small_messages_do_not_wait_for_a_large_one() -> None:
    a, b = Side(), Side()
    a.send("large", bytes(40 * PIECE_BYTES))
    a.exchange.output(PACKET)
    a.send("small", b"x")

    output = a.exchange.output(PACKET) + a.exchange.output(PACKET)

    assert 1 in number_frames(output)
    del b


def test_many_small_messages_go_in_one_packet() -> None:
    a = Side()
    for number in range(50):
        a.send(f"inbox {number}", b"x")

    assert len(number_frames(a.exchange.output(PACKET))) == 50
    assert not a.exchange.has_output


def test_an_inbox_is_named_once_and_anew_after_its_number_went_to_another() -> None:
    a, b = Side(), Side()
    for _ in range(2):
        a.send("root", b"x")
        settle(a, b)
    before = a.exchange._names["root"]
    for number in range(MAX_NAMES):
        a.send(f"reply {number}", b"x")
        settle(a, b)
    a.send("root", b"y")
    settle(a, b)

    assert before == 0
    assert b.got[:2] == [("root", b"x")] * 2
    assert b.got[-1] == ("root", b"y")
    assert len(b.got) == MAX_NAMES + 3


def test_room_is_bounded_and_comes_back_with_the_answers() -> None:
    a, b = Side(), Side()
    for number in range(MAX_UNANSWERED):
        assert a.exchange.has_room(1)
        a.send(f"inbox {number % 7}", b"x")
    assert not a.exchange.has_room(1)
    settle(a, b)
    assert a.exchange.has_room(MAX_LARGE_MESSAGE_BYTES)

    a.send("large", bytes(MAX_LARGE_MESSAGE_BYTES))
    assert not a.exchange.has_room(MAX_UNANSWERED_BYTES - MAX_LARGE_MESSAGE_BYTES + 1)
    assert a.exchange.has_room(MAX_UNANSWERED_BYTES - MAX_LARGE_MESSAGE_BYTES)


@pytest.mark.parametrize("status", [Status.NO_SUCH_INBOX, Status.TOO_BUSY])
def test_a_large_message_that_is_refused_is_not_sent_to_its_end(status: Status) -> None:
    a, b = Side(), Side(admit=status)
    message = a.send("large", bytes(100 * PIECE_BYTES))
    carried = 0
    while a.exchange.has_output or b.exchange.has_output:
        data = a.exchange.output(PACKET)
        carried += len(data)
        b.feed(data)
        a.feed(b.exchange.output(PACKET))
    a.send("small", b"after")
    b.admit = Status.ACCEPTED
    settle(a, b)

    assert message.status is status
    assert carried < 3 * PACKET
    assert b.got == [("small", b"after")]
    assert a.exchange.is_quiet
    assert b.exchange.is_quiet


def test_a_message_given_up_half_way_leaves_nothing_behind() -> None:
    a, b = Side(), Side()
    message, queued = a.send("large", bytes(10 * PIECE_BYTES)), a.send("large", b"queued")
    b.feed(a.exchange.output(PACKET))
    assert b.taken == 10 * PIECE_BYTES
    a.exchange.abandon(queued)
    a.exchange.abandon(message)
    a.exchange.abandon(message)
    a.send("large", b"next")
    settle(a, b)

    assert b.got == [("large", b"next")]
    assert b.taken == 0
    assert a.exchange.is_quiet
    assert b.exchange.is_quiet


def test_what_was_sent_whole_stays_under_way_when_nobody_waits_for_it() -> None:
    a, b = Side(), Side()
    message = a.send("inbox", b"x")
    data = a.exchange.output(PACKET)
    a.exchange.abandon(message)
    b.feed(data)
    settle(a, b)

    assert b.got == [("inbox", b"x")]
    assert message.status is Status.ACCEPTED


def test_a_lost_stream_loses_what_was_not_answered_and_tells_whether_it_was_begun() -> None:
    a, b = Side(), Side()
    begun, waiting = a.send("inbox", bytes(3 * PIECE_BYTES)), a.send("inbox", b"x")
    b.feed(a.exchange.output(PACKET))

    assert set(a.exchange.lose()) == {begun, waiting}
    assert (begun.is_begun, waiting.is_begun) == (True, False)
    assert begun.is_lost
    assert waiting.is_lost
    assert b.exchange.first_half() == 0
    b.exchange.lose()
    assert b.taken == 0


def test_closing_is_told_once_and_begins_nothing_new() -> None:
    a, b = Side(), Side()
    a.exchange.close()
    a.exchange.close()
    settle(a, b)

    assert a.exchange.is_closing
    assert b.exchange.is_closing
    assert b.exchange.is_quiet


NAME = encode(Kind.NAME, 0, 0, 0, b"inbox")


@pytest.mark.parametrize(
    "data",
    [
        encode(Kind.DATA, FIRST | LAST, 0, 1, b"no name"),
        NAME + encode(Kind.DATA, FIRST | LAST, 0, 1, b""),
        NAME + encode(Kind.DATA, FIRST, 0, 1, SIZE.pack(10)),
        NAME + encode(Kind.DATA, 0, 0, 1, b"not begun"),
        NAME + encode(Kind.DATA, FIRST, 0, 1, SIZE.pack(10) + b"x") * 2,
        NAME + encode(Kind.DATA, FIRST, 0, 1, SIZE.pack(2) + b"xxx"),
        NAME + encode(Kind.DATA, FIRST, 0, 1, SIZE.pack(2) + b"xx"),
        NAME + encode(Kind.DATA, FIRST, 0, 1, SIZE.pack(9) + b"x") + encode(Kind.DATA, LAST, 0, 1, b"short"),
        NAME + b"".join(encode(Kind.DATA, FIRST, 0, n, SIZE.pack(9) + b"x") for n in range(MAX_UNANSWERED + 1)),
        NAME + b"".join(encode(Kind.DATA, FIRST, 0, n, SIZE.pack(MAX_LARGE_MESSAGE_BYTES) + b"x") for n in range(2)),
        encode(Kind.NAME, 0, 0, 0, b""),
        encode(Kind.NAME, 0, 0, 0, b"\xff"),
        encode(Kind.NAME, 0, 0, 0, b"x" * (MAX_NAME_BYTES + 1)),
        encode(Kind.NAME, 0, MAX_NAMES, 0, b"x"),
    ],
)
def test_whoever_breaks_the_protocol_is_refused(data: bytes) -> None:
    side = Side()
    with pytest.raises(BadFrame):
        side.feed(data)
    side.exchange.lose()
    assert side.taken == 0


def test_an_answer_that_is_none_is_refused_and_one_to_nothing_ignored() -> None:
    side = Side()
    side.feed(encode(Kind.ANSWER, 0, 0, 77))
    side.feed(encode(Kind.CANCEL, 0, 0, 77))
    side.send("inbox", b"x")
    side.exchange.output(PACKET)
    with pytest.raises(BadFrame):
        side.feed(encode(Kind.ANSWER, 99, 0, 0))


def test_more_than_the_largest_is_refused_and_not_kept() -> None:
    side = Side()
    side.feed(NAME + encode(Kind.DATA, FIRST, 0, 5, SIZE.pack(MAX_LARGE_MESSAGE_BYTES + 1) + b"x"))
    side.feed(encode(Kind.DATA, 0, 0, 5, b"more") + encode(Kind.DATA, LAST, 0, 5, b"the end"))

    (answer,) = Deframer().feed(side.exchange.output(PACKET))
    assert (answer.kind, answer.flags, answer.number) == (Kind.ANSWER, Status.TOO_LARGE, 5)
    assert side.got == []
    assert side.exchange.is_quiet


def test_a_peer_that_sends_and_reads_no_answers_is_ended() -> None:
    side = Side()
    side.feed(NAME)

    def flood() -> None:
        for number in range(10_000):
            side.feed(encode(Kind.DATA, FIRST | LAST, 0, number, b"x"))

    with pytest.raises(BadFrame, match="not read"):
        flood()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.binary(max_size=12))
    )
)
def test_whatever_comes_nothing_else_than_bad_frame_is_raised(frames: list[tuple[int, int, int, int, bytes]]) -> None:
    side = Side()
    side.send("inbox 0", bytes(2 * PIECE_BYTES))
    try:
        for frame in frames:
            side.feed(encode(*frame))
            side.exchange.output(PACKET)
    except BadFrame:
        pass
    side.exchange.lose()
    assert side.taken == 0


def test_an_incoming_message_is_its_pieces() -> None:
    assert Incoming(1, "inbox", 3, pieces=[b"a", b"bc"]).data == b"abc"
