"""The sockets of a WebAssembly server: what WASI preview 1 knows of them, over sockets that this process was started with.

Listening ones have the numbers from 3 on, as servers expect that are started with sockets (``LISTEN_FDS``); those that are
accepted begin at :data:`FIRST_CONNECTION`. A guest can accept, receive, send, poll, shut down and close; it can neither open
connections of its own nor learn who is at the other end. Standard library only, and little of it.

The trap: every address and length comes from the guest. All of them pass :meth:`Memory.at`, before anything is done that
could not be undone, such as taking a connection.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import struct

from dms.executor.wasm_poll import (
    BADF,
    EVENT_BYTES,
    MAX_SUBSCRIPTIONS,
    SUBSCRIPTION_BYTES,
    SUCCESS,
    Source,
    read_subscriptions,
    until_readable,
    wait,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FIRST_LISTENER, FIRST_CONNECTION = 3, 1024
"""More than any number that the guest's files can have: :data:`~dms.executor.wasm_runner.MAX_OPEN_FILES` and our own."""
MAX_CONNECTIONS = 256
"""At once; more wait in the kernel until one is closed."""
MAX_BUFFERS = 1024
NOT_OURS = -1
"""Returned by :meth:`Sockets.poll_oneoff` where nothing that is asked for is a socket."""

AGAIN, FAULT, INVAL, IO, MFILE, NOTCONN, NOTSUP, SPIPE = 6, 21, 28, 29, 33, 53, 58, 70
_ERRNO = {
    errno.EAGAIN: AGAIN,
    errno.EBADF: BADF,
    errno.ECONNABORTED: 13,
    errno.ECONNRESET: 15,
    errno.EFAULT: FAULT,
    errno.EHOSTUNREACH: 23,
    errno.EINVAL: INVAL,
    errno.EMFILE: MFILE,
    errno.ENFILE: 41,
    errno.ENETDOWN: 38,
    errno.ENETUNREACH: 40,
    errno.ENOBUFS: 42,
    errno.ENOMEM: 48,
    errno.ENOTCONN: NOTCONN,
    errno.EOPNOTSUPP: NOTSUP,
    errno.EPIPE: 64,
    errno.ETIMEDOUT: 73,
}
NONBLOCK = 4
_PEEK, _WAIT_ALL = 1, 2
_READ_END, _WRITE_END = 1, 2
_SOCKET_STREAM, _NO_DIRECTORY = 6, 1
_RIGHTS = 1 << 1 | 1 << 3 | 1 << 6 | 1 << 21 | 1 << 27 | 1 << 28 | 1 << 29
"""To read, write, set flags, ask what it is, poll, shut down, accept."""
_BUFFER, _SIZE = struct.Struct("<II"), struct.Struct("<I")
_FDSTAT, _FILESTAT = struct.Struct("<BxHxxxxQQ"), struct.Struct("<QQBxxxxxxxQQQQQ")


class Refusal(Exception):
    """A call fails with a number of WASI's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Memory:
    """What the guest can address; it grows, so it is asked for anew at every call."""

    def __init__(self, where: Callable[[], tuple[int, int]]) -> None:
        """``where``: address and size in bytes, now."""
        self._where, self._is_at = where, (0, 0)
        self._view = memoryview(b"")

    def at(self, address: int, size: int) -> memoryview:
        """That part of it, to read and to write.

        :raises Refusal: it is not all inside.
        """
        place = self._where()
        if place != self._is_at:
            self._is_at = place
            self._view = memoryview((ctypes.c_ubyte * place[1]).from_address(place[0])).cast("B")
        if address + size > place[1]:
            raise Refusal(FAULT)
        return self._view[address : address + size]

    def buffers(self, address: int, count: int) -> list[memoryview]:
        """Those that a list in the memory names, without empty ones.

        :raises Refusal: there are too many, or one is not all inside.
        """
        if count > MAX_BUFFERS:
            raise Refusal(INVAL)
        named = list(_BUFFER.iter_unpack(self.at(address, count * _BUFFER.size)))
        return [self.at(start, size) for start, size in named if size]


class Listener:
    """One listening socket of the guest: several of the machine's, as its port is reached in several ways."""

    def __init__(self, fds: list[int]) -> None:
        self.sockets: list[Any] = [_socket.socket(fileno=fd) for fd in fds]
        for one in self.sockets:
            one.setblocking(False)
        self.is_waiting = True
        """Whether the guest wants to wait where there is nothing."""

    def accept(self) -> Any | None:
        """A connection, if there is one.

        :raises OSError: this process can have no more.
        """
        for one in self.sockets:
            try:
                fd, _ = one._accept()  # noqa: SLF001  what socket.socket.accept does, without loading that
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                continue  # nothing there, or it has gone again
            self.sockets.append(self.sockets.pop(self.sockets.index(one)))  # the others first, next time
            return _socket.socket(fileno=fd)
        return None

    def close(self) -> None:
        """Nobody is let in any more."""
        for one in self.sockets:
            one.close()


class Sockets:
    """All of a guest's. The public methods are functions of WASI: numbers in, an error number out."""

    def __init__(self, memory: Memory, listeners: list[Listener], *, origin_ns: int) -> None:
        """``origin_ns``: of our monotonic clock, when the guest's was 0."""
        self._memory, self._origin_ns = memory, origin_ns
        self._listeners = dict(enumerate(listeners, FIRST_LISTENER))
        self._first_other = FIRST_LISTENER + len(listeners)
        self._connections: dict[int, Any] = {}

    def call(self, name: str, arguments: list[int]) -> int:
        """One of the functions; what goes wrong is a number."""
        try:
            return int(getattr(self, name)(*arguments))
        except Refusal as refusal:
            return refusal.number
        except OSError as error:
            return _ERRNO.get(error.errno or 0, IO)

    # what every descriptor has ---------------------------------------------------------------------------------------

    def fd_close(self, fd: int) -> int:
        """It is no more."""
        self._find(fd)
        (self._connections.pop(fd, None) or self._listeners.pop(fd)).close()
        return SUCCESS

    def fd_renumber(self, fd: int, to: int) -> int:
        """Call it ``to``, which is closed before; sockets only take the place of sockets."""
        one = self._find(fd)
        if to not in self._listeners and to not in self._connections:
            return NOTSUP
        if fd != to:
            self.fd_close(to)
            (self._connections if fd in self._connections else self._listeners).pop(fd)
            (self._listeners if isinstance(one, Listener) else self._connections)[to] = one
        return SUCCESS

    def fd_fdstat_get(self, fd: int, out: int) -> int:
        """That it is a stream socket, and whether who calls waits."""
        one = self._find(fd)
        waits = one.is_waiting if isinstance(one, Listener) else one.getblocking()
        told = _FDSTAT.pack(_SOCKET_STREAM, 0 if waits else NONBLOCK, _RIGHTS, _RIGHTS)
        self._memory.at(out, _FDSTAT.size)[:] = told
        return SUCCESS

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        """Whether who calls waits."""
        one, waits = self._find(fd), not flags & NONBLOCK
        if isinstance(one, Listener):
            one.is_waiting = waits
        else:
            one.setblocking(waits)
        return SUCCESS

    def fd_filestat_get(self, fd: int, out: int) -> int:
        """That it is a stream socket."""
        self._find(fd)
        self._memory.at(out, _FILESTAT.size)[:] = _FILESTAT.pack(0, fd, _SOCKET_STREAM, 1, 0, 0, 0, 0)
        return SUCCESS

    def fd_prestat_get(self, fd: int, out: int) -> int:
        """That it is something else than a directory: an error would end the guest's search for its directories, which have
        the numbers that follow."""
        if fd >= FIRST_CONNECTION:
            return BADF
        self._memory.at(out, 8)[:] = struct.pack("<II", _NO_DIRECTORY, 0)
        return SUCCESS

    def fd_prestat_dir_name(self, fd: int, _out: int, _size: int) -> int:
        """It has none."""
        return BADF if fd >= FIRST_CONNECTION else SUCCESS

    def fd_seek(self, fd: int, _offset: int, _whence: int, _out: int) -> int:
        """It has no place."""
        self._find(fd)
        return SPIPE

    def fd_tell(self, fd: int, _out: int) -> int:
        """It has no place."""
        self._find(fd)
        return SPIPE

    # streams ---------------------------------------------------------------------------------------------------------

    def fd_read(self, fd: int, buffers: int, count: int, out_size: int) -> int:
        """Receive."""
        return self._receive(fd, buffers, count, 0, out_size)

    def fd_write(self, fd: int, buffers: int, count: int, out_size: int) -> int:
        """Send."""
        return self.sock_send(fd, buffers, count, 0, out_size)

    def sock_recv(self, fd: int, buffers: int, count: int, flags: int, out_size: int, out_flags: int) -> int:
        """Receive: perhaps all, perhaps without taking it away."""
        if flags & ~(_PEEK | _WAIT_ALL):
            return INVAL
        told = self._memory.at(out_flags, 2)
        how = (_socket.MSG_PEEK if flags & _PEEK else 0) | (_socket.MSG_WAITALL if flags & _WAIT_ALL else 0)
        number = self._receive(fd, buffers, count, how, out_size)
        told[:] = bytes(2)
        return number

    def sock_send(self, fd: int, buffers: int, count: int, flags: int, out_size: int) -> int:
        """Send."""
        if flags:
            return INVAL
        told, pieces = self._memory.at(out_size, _SIZE.size), self._memory.buffers(buffers, count)
        one = self._connection(fd)
        sent = one.sendmsg(pieces, [], _socket.MSG_NOSIGNAL) if pieces else 0
        _SIZE.pack_into(told, 0, sent)
        return SUCCESS

    def sock_shutdown(self, fd: int, how: int) -> int:
        """End one direction, or both."""
        ways = {_READ_END: _socket.SHUT_RD, _WRITE_END: _socket.SHUT_WR, _READ_END | _WRITE_END: _socket.SHUT_RDWR}
        if how not in ways:
            return INVAL
        self._connection(fd).shutdown(ways[how])
        return SUCCESS

    def sock_accept(self, fd: int, flags: int, out_fd: int) -> int:
        """Take a connection."""
        listener, told = self._find(fd), self._memory.at(out_fd, _SIZE.size)
        if not isinstance(listener, Listener) or flags & ~NONBLOCK:
            return INVAL
        if self._is_full:
            return MFILE if listener.is_waiting else AGAIN
        while (made := listener.accept()) is None:
            if not listener.is_waiting:
                return AGAIN
            until_readable([one.fileno() for one in listener.sockets])
        made.setblocking(not flags & NONBLOCK)
        made.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)  # the guest cannot ask for it
        made.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
        number = next(
            n for n in range(FIRST_CONNECTION, FIRST_CONNECTION + MAX_CONNECTIONS) if n not in self._connections
        )
        self._connections[number] = made
        _SIZE.pack_into(told, 0, number)
        return SUCCESS

    def poll_oneoff(self, subscriptions: int, events: int, count: int, out_count: int) -> int:
        """Wait until one of several things is so; see :mod:`dms.executor.wasm_poll`."""
        if not count or count > MAX_SUBSCRIPTIONS:
            return INVAL
        wanted = read_subscriptions(self._memory.at(subscriptions, count * SUBSCRIPTION_BYTES), self._origin_ns)
        if not any(one.fd is not None and self._is_ours(one.fd) for one in wanted):
            return NOT_OURS
        told, told_count = self._memory.at(events, count * EVENT_BYTES), self._memory.at(out_count, _SIZE.size)
        happened = wait(wanted, self._source)
        told[: len(happened)] = happened
        _SIZE.pack_into(told_count, 0, len(happened) // EVENT_BYTES)
        return SUCCESS

    def _source(self, fd: int) -> Source:
        """What to ask the kernel about a descriptor."""
        found = self._get(fd)
        if isinstance(found, Listener):
            return Source([one.fileno() for one in found.sockets] if not self._is_full else [], is_listener=True)
        if found is not None:
            return Source([found.fileno()])
        return Source([], error=BADF) if self._is_ours(fd) else Source([], is_ready=True)

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return len(self._connections) >= MAX_CONNECTIONS

    def _get(self, fd: int) -> Any | None:
        return self._connections.get(fd) or self._listeners.get(fd)

    def _is_ours(self, fd: int) -> bool:
        return fd >= FIRST_CONNECTION or FIRST_LISTENER <= fd < self._first_other

    def _find(self, fd: int) -> Any:
        found = self._get(fd)
        if found is None:
            raise Refusal(BADF)
        return found

    def _connection(self, fd: int) -> Any:
        found = self._find(fd)
        if isinstance(found, Listener):
            raise Refusal(NOTCONN)
        return found

    def _receive(self, fd: int, buffers: int, count: int, how: int, out_size: int) -> int:
        told, pieces = self._memory.at(out_size, _SIZE.size), self._memory.buffers(buffers, count)
        one = self._connection(fd)
        size = one.recvmsg_into(pieces, 0, how)[0] if pieces else 0
        _SIZE.pack_into(told, 0, size)
        return SUCCESS
