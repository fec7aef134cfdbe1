"""What both sides of a kept stream know: which messages are under way, in pieces or whole, and what became of them.

Without I/O and without a clock. The shell (:mod:`~dms.network.libp2p.messages.kept`) writes what :meth:`Exchange.output`
returns, feeds :meth:`Exchange.receive` with what arrives, and does what the returned events say.

- Messages to different inboxes take turns, a piece each, so that a large one holds nobody up; those to the same inbox
  go one after the other, so that they arrive in order.
- A sender has a bounded number of messages and bytes unanswered. The receiver holds it to that, so the memory that a
  peer can take is bounded, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from dms.network.errors import BadFrame
from dms.network.libp2p.messages.frames import (
    FIRST,
    LAST,
    MAX_NAME_BYTES,
    MAX_NAMES,
    SIZE,
    Deframer,
    Frame,
    Kind,
    Status,
    encode,
)
from dms.network.protocol import MAX_LARGE_MESSAGE_BYTES

PIECE_BYTES = 65280
"""With the headers of this protocol, of the muxer and of the encryption it fills one packet of the latter."""
MAX_UNANSWERED = 128
"""Messages under way in one direction of a stream,"""
MAX_UNANSWERED_BYTES = MAX_LARGE_MESSAGE_BYTES + (4 << 20)
"""and their bytes: the largest message, and small ones beside it."""
MAX_UNREAD = 4 * MAX_UNANSWERED
"""Answers that wait to be written: a peer that sends and does not read would fill the memory with them."""

_NUMBERS = 1 << 32


@dataclass(eq=False, slots=True)
class Outgoing:
    """A message to the other side; ``end`` is set by the shell once it has a status or is lost."""

    inbox: str
    data: bytes
    end: trio.Event
    number: int = -1
    sent: int = 0
    status: Status | None = None
    is_lost: bool = False

    @property
    def is_begun(self) -> bool:
        """Whether any of it was handed out for writing."""
        return self.number >= 0


@dataclass(eq=False, slots=True)
class Incoming:
    """A message of the other side."""

    number: int
    inbox: str
    size: int
    is_admitted: bool = False
    pieces: list[bytes] = field(default_factory=list)
    received: int = 0

    @property
    def data(self) -> bytes:
        """All of it."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


Admit = Callable[[str, int], Status]
"""Whether a message in several pieces may come: its inbox, its bytes."""


class Exchange:
    """Both directions of one kept stream."""

    def __init__(self, admit: Admit, release: Callable[[int], None] = lambda _: None) -> None:
        self._admit = admit
        self._release = release
        self._deframer = Deframer()
        # outgoing
        self._control: list[bytes] = []
        self._queues: dict[str, deque[Outgoing]] = {}
        self._turns: deque[str] = deque()
        self._unanswered: dict[int, Outgoing] = {}
        self._pending = 0
        self._pending_bytes = 0
        self._names: dict[str, int] = {}
        self._named: list[str] = []
        self._next_name = 0
        self._next_number = 0
        # incoming
        self._inboxes: dict[int, str] = {}
        self._held: dict[int, Incoming] = {}
        self._held_bytes = 0
        self._discarded: set[int] = set()
        self.is_closing = False
        """Whether one side wants to end the stream: nothing new is begun."""

    # outgoing --------------------------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._control or self._turns)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way in either direction."""
        return not (self._control or self._turns or self._unanswered or self._held)

    def has_room(self, size: int) -> bool:
        """Whether a message of so many bytes may be offered now."""
        return self._pending < MAX_UNANSWERED and self._pending_bytes + size <= MAX_UNANSWERED_BYTES

    def offer(self, message: Outgoing) -> None:
        """Send a message, in its turn."""
        self._pending += 1
        self._pending_bytes += len(message.data)
        queue = self._queues.get(message.inbox)
        if queue is None:
            self._queues[message.inbox] = deque((message,))
            self._turns.append(message.inbox)
        else:
            queue.append(message)

    def abandon(self, message: Outgoing) -> None:
        """Whoever sent it waits no longer. What is under way whole may still be delivered; the rest is not sent."""
        queue = self._queues.get(message.inbox)
        if queue is None or message not in queue:
            return
        queue.remove(message)
        self._forget(message)
        if not queue:
            self._drop_queue(message.inbox)
        if message.is_begun:
            del self._unanswered[message.number]
            self._control.append(encode(Kind.CANCEL, 0, 0, message.number))

    def close(self) -> None:
        """Say that the stream shall end."""
        if not self.is_closing:
            self.is_closing = True
            self._control.append(encode(Kind.CLOSING, 0, 0, 0))

    def output(self, max_bytes: int) -> bytes:
        """What to write next: about so many bytes at most, one whole frame at least, if there is anything."""
        parts, size = self._control, sum(map(len, self._control))
        self._control = []
        while self._turns and (size == 0 or size < max_bytes):
            part = self._next_frames(max_bytes - size, is_first=size == 0)
            if not part:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def lose(self) -> list[Outgoing]:
        """The stream is gone: everything unanswered is lost."""
        lost = [*self._unanswered.values()]
        lost += [message for queue in self._queues.values() for message in queue if not message.is_begun]
        self._unanswered.clear()
        self._queues.clear()
        self._turns.clear()
        self._pending = self._pending_bytes = 0
        for message in lost:
            message.is_lost = True
        for incoming in self._held.values():
            self._give_back(incoming)
        self._held.clear()
        self._held_bytes = 0
        return lost

    def _next_frames(self, room: int, *, is_first: bool) -> bytes:
        inbox = self._turns[0]
        queue = self._queues[inbox]
        message = queue[0]
        left = len(message.data) - message.sent
        if not is_first and min(left, PIECE_BYTES) > room - 64:
            return b""
        if not message.is_begun:
            message.number = self._next_number
            self._next_number = (self._next_number + 1) % _NUMBERS
            self._unanswered[message.number] = message
        index = self._names.get(inbox)
        name = b""
        if index is None:
            index, name = self._give_number(inbox)
        flags, prefix = 0, b""
        if message.sent == 0:
            flags = FIRST
            if left > PIECE_BYTES:
                prefix = SIZE.pack(left)
        if left <= PIECE_BYTES:
            flags |= LAST
        piece = message.data if flags == FIRST | LAST else message.data[message.sent : message.sent + PIECE_BYTES]
        message.sent += len(piece)
        self._turns.popleft()
        if flags & LAST:
            queue.popleft()
        if queue:
            self._turns.append(inbox)
        else:
            del self._queues[inbox]
        return name + encode(Kind.DATA, flags, index, message.number, prefix + piece if prefix else piece)

    def _give_number(self, inbox: str) -> tuple[int, bytes]:
        index = self._next_name
        self._next_name = (index + 1) % MAX_NAMES
        if index < len(self._named):
            del self._names[self._named[index]]
            self._named[index] = inbox
        else:
            self._named.append(inbox)
        self._names[inbox] = index
        return index, encode(Kind.NAME, 0, index, 0, inbox.encode())

    def _forget(self, message: Outgoing) -> None:
        self._pending -= 1
        self._pending_bytes -= len(message.data)

    def _drop_queue(self, inbox: str) -> None:
        del self._queues[inbox]
        self._turns.remove(inbox)

    # incoming --------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Incoming | Outgoing]:
        """Take in what arrived. Returns messages to deliver, each to be answered with :meth:`answer`, and messages of
        ours whose end is known now.

        :raises BadFrame: the other side does not keep to the protocol.
        """
        events: list[Incoming | Outgoing] = []
        for frame in self._deframer.feed(data):
            event: Incoming | Outgoing | None = None
            if frame.kind == Kind.DATA:
                event = self._take_piece(frame)
            elif frame.kind == Kind.ANSWER:
                event = self._take_answer(frame)
            elif frame.kind == Kind.NAME:
                self._take_name(frame)
            elif frame.kind == Kind.CANCEL:
                self._take_cancel(frame.number)
            else:
                self.is_closing = True
            if event is not None:
                events.append(event)
        return events

    def answer(self, message: Incoming, status: Status) -> None:
        """Tell the other side what became of a message."""
        if self._held.pop(message.number, None) is None:
            return
        self._held_bytes -= message.size
        self._give_back(message)
        self._control.append(encode(Kind.ANSWER, status, 0, message.number))

    def first_half(self) -> int | None:
        """The number of the oldest message of which more has to come."""
        return next((one.number for one in self._held.values() if one.received < one.size), None)

    def _take_piece(self, frame: Frame) -> Incoming | None:
        number, piece = frame.number, frame.piece
        if frame.flags & FIRST:
            message = self._begin(frame)
            if message is None:
                return None
            if not frame.flags & LAST:
                piece = piece[SIZE.size :]
        else:
            if number in self._discarded:
                if frame.flags & LAST:
                    self._discarded.discard(number)
                return None
            held = self._held.get(number)
            if held is None or held.received == held.size:
                raise BadFrame(f"a piece of message {number}, which was not begun")
            message = held
        if not piece:
            raise BadFrame("an empty piece of a message")
        message.pieces.append(piece)
        message.received += len(piece)
        if message.received > message.size or bool(frame.flags & LAST) != (message.received == message.size):
            raise BadFrame(f"message {number} is not as long as it said")
        return message if frame.flags & LAST else None

    def _begin(self, frame: Frame) -> Incoming | None:
        number, inbox = frame.number, self._inboxes.get(frame.inbox)
        if inbox is None:
            raise BadFrame(f"inbox {frame.inbox} has no name")
        if number in self._held or number in self._discarded:
            raise BadFrame(f"message {number} was begun before")
        if len(self._held) + len(self._discarded) >= MAX_UNANSWERED:
            raise BadFrame("too many messages unanswered")
        if len(self._control) > MAX_UNREAD:
            raise BadFrame("answers are not read")
        if frame.flags & LAST:
            size, status = len(frame.piece), Status.ACCEPTED
        else:
            if len(frame.piece) <= SIZE.size:
                raise BadFrame("an empty piece of a message")
            (size,) = SIZE.unpack_from(frame.piece)
            status = Status.TOO_LARGE if size > MAX_LARGE_MESSAGE_BYTES else self._admit(inbox, size)
        if status is not Status.ACCEPTED:
            self._discarded.add(number)
            self._control.append(encode(Kind.ANSWER, status, 0, number))
            return None
        message = self._held[number] = Incoming(number, inbox, size, is_admitted=not frame.flags & LAST)
        self._held_bytes += size
        if self._held_bytes > MAX_UNANSWERED_BYTES:
            raise BadFrame("too many bytes unanswered")
        return message

    def _take_answer(self, frame: Frame) -> Outgoing | None:
        message = self._unanswered.pop(frame.number, None)
        if message is None:
            return None
        try:
            message.status = Status(frame.flags)
        except ValueError:
            raise BadFrame(f"no answer: {frame.flags}") from None
        queue = self._queues.get(message.inbox)
        if queue is not None and queue[0] is message:
            # Refused before all of it was sent: the other side is told that no more comes.
            queue.popleft()
            if not queue:
                self._drop_queue(message.inbox)
            self._control.append(encode(Kind.CANCEL, 0, 0, frame.number))
        self._forget(message)
        return message

    def _take_name(self, frame: Frame) -> None:
        if not 0 < len(frame.piece) <= MAX_NAME_BYTES or frame.inbox >= MAX_NAMES:
            raise BadFrame("no name of an inbox")
        try:
            self._inboxes[frame.inbox] = frame.piece.decode()
        except UnicodeDecodeError:
            raise BadFrame("the name of an inbox is not text") from None

    def _take_cancel(self, number: int) -> None:
        if number in self._discarded:
            self._discarded.discard(number)
            return
        message = self._held.get(number)
        if message is None or message.received == message.size:
            return
        del self._held[number]
        self._held_bytes -= message.size
        self._give_back(message)

    def _give_back(self, message: Incoming) -> None:
        if message.is_admitted:
            self._release(message.size)
