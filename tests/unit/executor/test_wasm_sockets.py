"""What a guest may ask of its sockets: any numbers whatever."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.executor.wasm_poll import EVENT_BYTES, SUBSCRIPTION_BYTES, read_subscriptions
from dms.executor.wasm_sockets import FIRST_CONNECTION, FIRST_LISTENER, NONBLOCK, NOT_OURS, Listener, Memory, Sockets

SIZE, GUARD = 4096, 512
PARAMETERS = {
    "fd_close": 1,
    "fd_fdstat_get": 2,
    "fd_filestat_get": 2,
    "fd_prestat_get": 2,
    "fd_prestat_dir_name": 3,
    "fd_read": 4,
    "fd_renumber": 2,
    "fd_seek": 4,
    "fd_tell": 2,
    "fd_write": 4,
    "poll_oneoff": 4,
    "sock_accept": 3,
    "sock_recv": 6,
    "sock_send": 5,
    "sock_shutdown": 2,
}
NUMBERS = st.sampled_from(
    [0, 1, 2, 3, 4, 8, 64, SIZE - 1, SIZE, FIRST_CONNECTION, FIRST_CONNECTION + 1, 1 << 20, (1 << 32) - 1]
)
CALLS = st.sampled_from(sorted(PARAMETERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(NUMBERS, min_size=PARAMETERS[name], max_size=PARAMETERS[name]))
)


class Guest:
    """Sockets of a guest, and its memory between two guards."""

    def __init__(self) -> None:
        self._room = (ctypes.c_ubyte * (SIZE + 2 * GUARD))(*([0xA5] * GUARD), *([0] * SIZE), *([0xA5] * GUARD))
        place = ctypes.addressof(self._room) + GUARD
        self.memory = Memory(lambda: (place, SIZE))
        listening = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listening.getsockname())
        self.sockets = Sockets(self.memory, [Listener([listening.detach()])], origin_ns=0)
        self.sockets.fd_fdstat_set_flags(FIRST_LISTENER, NONBLOCK)

    @property
    def is_guarded(self) -> bool:
        room = bytes(self._room)
        return room[:GUARD] == room[-GUARD:] == b"\xa5" * GUARD

    def close(self) -> None:
        self.client.close()
        for fd in (FIRST_LISTENER, *range(FIRST_CONNECTION, FIRST_CONNECTION + 8)):
            self.sockets.call("fd_close", [fd])


@contextmanager
def guest() -> Iterator[Guest]:
    made = Guest()
    try:
        yield made
    finally:
        made.close()


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=256), calls=st.lists(CALLS, max_size=12))
def test_whatever_is_asked_there_is_a_number_and_nothing_else_is_touched(
    raw: bytes, calls: list[tuple[str, list[int]]]
) -> None:
    with guest() as one:
        one.client.send(b"something to read")
        assert one.sockets.call("sock_accept", [FIRST_LISTENER, NONBLOCK, 0]) == 0
        one.memory.at(0, SIZE)[SUBSCRIPTION_BYTES : SUBSCRIPTION_BYTES + len(raw)] = raw
        for name, numbers in calls:
            one.memory.at(0, SUBSCRIPTION_BYTES)[:] = bytes(SUBSCRIPTION_BYTES)  # so that no wait is long
            if name == "poll_oneoff":
                numbers = [0, *numbers[1:]]
            assert NOT_OURS <= one.sockets.call(name, numbers) < 77
            assert one.is_guarded


def test_a_renamed_socket_takes_the_place_of_the_other() -> None:
    with guest() as one:
        out = 128
        assert one.sockets.call("sock_accept", [FIRST_LISTENER, NONBLOCK, out]) == 0
        assert one.sockets.call("fd_renumber", [FIRST_CONNECTION, FIRST_LISTENER]) == 0
        assert one.sockets.call("fd_tell", [FIRST_CONNECTION, out]) == 8, "there is none of that number now"
        one.memory.at(0, 16)[:] = (64).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(8)
        one.memory.at(64, 2)[:] = b"hi"
        assert one.sockets.call("fd_write", [FIRST_LISTENER, 0, 1, out]) == 0
        assert one.client.recv(2) == b"hi"
        assert one.sockets.call("fd_renumber", [FIRST_LISTENER, 0]) == 58, "not in the place of a stream"


def test_peeking_leaves_what_was_sent_and_the_end_of_a_stream_is_seen() -> None:
    with guest() as one:
        out, told = 128, 132
        assert one.sockets.call("sock_accept", [FIRST_LISTENER, 0, out]) == 0
        one.client.send(b"x")
        one.memory.at(0, 8)[:] = (64).to_bytes(4, "little") + (2).to_bytes(4, "little")
        for flags in (1, 0):
            assert one.sockets.call("sock_recv", [FIRST_CONNECTION, 0, 1, flags, out, told]) == 0
            assert bytes(one.memory.at(out, 4)) == (1).to_bytes(4, "little")
        one.client.close()
        reading = bytearray(SUBSCRIPTION_BYTES)
        reading[8], reading[16:20] = 1, FIRST_CONNECTION.to_bytes(4, "little")
        one.memory.at(256, SUBSCRIPTION_BYTES)[:] = bytes(reading)
        assert one.sockets.call("poll_oneoff", [256, 512, 1, out]) == 0
        event = bytes(one.memory.at(512, EVENT_BYTES))
        assert (event[8:10], event[10], event[16:24]) == (bytes(2), 1, bytes(8)), "nothing more will come"


@pytest.mark.parametrize(
    ("clock", "flags", "timeout_ns", "is_over"),
    [(1, 0, 0, True), (1, 0, 1 << 62, False), (1, 1, 1, True), (0, 1, 1, True), (0, 1, (1 << 64) - 1, False)],
)
def test_times_are_counted_from_now_or_from_when_their_clock_began(
    clock: int, flags: int, timeout_ns: int, is_over: bool
) -> None:
    raw = bytearray(SUBSCRIPTION_BYTES)
    raw[16:20], raw[24:32] = clock.to_bytes(4, "little"), timeout_ns.to_bytes(8, "little")
    raw[40] = flags
    (now,) = read_subscriptions(memoryview(bytes(SUBSCRIPTION_BYTES)), 0)
    (wanted,) = read_subscriptions(memoryview(bytes(raw)), 0)
    assert (wanted.deadline_ns <= now.deadline_ns + 10**9) is is_over
