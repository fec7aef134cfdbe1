"""``poll_oneoff`` of WASI preview 1 for sockets: wait for several things at once. Standard library only, and little of it."""

from __future__ import annotations

import fcntl
import select
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_SUBSCRIPTIONS = 4096
SUCCESS, BADF, INVAL, NOTSUP = 0, 8, 28, 58
MAX_WAIT_MS = 1 << 30

_CLOCK, _READ, _WRITE = 0, 1, 2
_REALTIME, _ABSOLUTE = 0, 1
_HANGUP = 1
_FIONREAD = 0x541B
_OVER = select.POLLHUP | select.POLLERR
_HEAD, _CLOCK_PART, _FD_PART = struct.Struct("<QB7x"), struct.Struct("<I4xQQH6x"), struct.Struct("<I28x")
_EVENT = struct.Struct("<QHB5xQH6x")
SUBSCRIPTION_BYTES, EVENT_BYTES = _HEAD.size + _CLOCK_PART.size, _EVENT.size


class Wanted:
    """One thing to wait for: that a descriptor can be read from or written to, or that it is so late."""

    def __init__(self, userdata: int, kind: int, fd: int | None, deadline_ns: int = 0) -> None:
        self.userdata, self.kind = userdata, kind
        self.fd = fd
        """``None`` for a time,"""
        self.deadline_ns = deadline_ns
        """which is one of our monotonic clock."""

    def event(self, error: int = SUCCESS, *, size: int = 0, flags: int = 0) -> bytes:
        """That it is so."""
        return _EVENT.pack(self.userdata, error, self.kind, size, flags)


class Source:
    """What to ask the kernel about a descriptor of the guest."""

    def __init__(
        self, fds: list[int], *, is_listener: bool = False, is_ready: bool = False, error: int = SUCCESS
    ) -> None:
        self.fds = fds
        """Ours; with none of them ready, there is nothing yet."""
        self.is_listener, self.is_ready, self.error = is_listener, is_ready, error
        """``is_ready``: always, as files are. ``error``: there is no such descriptor."""


def read_subscriptions(raw: memoryview, origin_ns: int) -> list[Wanted]:
    """What a guest wants to wait for; ``origin_ns``: of our monotonic clock, when the guest's was 0. Pure but for the clock."""
    found, now_ns = [], time.monotonic_ns()
    for start in range(0, len(raw), SUBSCRIPTION_BYTES):
        userdata, kind = _HEAD.unpack_from(raw, start)
        if kind != _CLOCK:
            found.append(Wanted(userdata, kind, _FD_PART.unpack_from(raw, start + _HEAD.size)[0]))
            continue
        clock, timeout_ns, _, flags = _CLOCK_PART.unpack_from(raw, start + _HEAD.size)
        begun_ns = now_ns
        if flags & _ABSOLUTE:
            begun_ns = now_ns - time.time_ns() if clock == _REALTIME else origin_ns
        found.append(Wanted(userdata, kind, None, begun_ns + timeout_ns))
    return found


def wait(wanted: list[Wanted], source_of: Callable[[int], Source]) -> bytes:
    """Wait until at least one of them is so; the events."""
    sources = {one.fd: source_of(one.fd) for one in wanted if one.fd is not None}
    masks: dict[int, int] = {}
    until_ns = min((one.deadline_ns for one in wanted if one.fd is None), default=None)
    for one in wanted:
        if one.fd is None:
            continue
        source = sources[one.fd]
        if _answer(one, source):
            until_ns = 0
        for fd in source.fds:
            masks[fd] = masks.get(fd, 0) | (select.POLLIN if one.kind == _READ else select.POLLOUT)
    poller = select.poll()
    for fd, mask in masks.items():
        poller.register(fd, mask)
    while True:
        states = dict(poller.poll(_left_ms(until_ns)))
        events = b"".join(_happened(wanted, sources, states))
        if events:
            return events


def until_readable(fds: list[int]) -> None:
    """Wait until one of them is."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    poller.poll()


def _left_ms(until_ns: int | None) -> int | None:
    if until_ns is None:
        return None
    return min(MAX_WAIT_MS, max(0, -(-(until_ns - time.monotonic_ns()) // 1_000_000)))


def _answer(one: Wanted, source: Source) -> bytes:
    """What is known without asking the kernel."""
    if source.error or one.kind not in (_READ, _WRITE):
        return one.event(source.error or INVAL)
    if source.is_listener and one.kind == _WRITE:
        return one.event(NOTSUP)
    return one.event() if source.is_ready else b""


def _happened(wanted: list[Wanted], sources: dict[int, Source], states: dict[int, int]) -> Iterator[bytes]:
    now_ns = time.monotonic_ns()
    for one in wanted:
        if one.fd is None:
            if one.deadline_ns <= now_ns:
                yield one.event()
            continue
        source = sources[one.fd]
        known = _answer(one, source)
        if known:
            yield known
            continue
        state = 0
        for fd in source.fds:
            state |= states.get(fd, 0)
        if source.is_listener and state:
            yield one.event(size=1)
        elif state & (_OVER | (select.POLLIN if one.kind == _READ else select.POLLOUT)):
            size = _waiting_bytes(source.fds[0]) if one.kind == _READ else 0
            yield one.event(size=size, flags=_HANGUP if state & _OVER else 0)


def _waiting_bytes(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, _FIONREAD, bytes(4)))[0])
