"""Commands inside an allocation, for its orchestrator: sessions that are bounded in number, memory and time.

What a command says is read no faster than the caller takes it, so that it stands still in between as with a pipe; a
caller of whom nothing is heard for a while has gone, and the command goes, too.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.allocation.errors import ExecRefused, SessionNotFound
from dms.allocation.exec_messages import (
    EXEC_START,
    EXEC_STOP,
    EXEC_TURN,
    ExecAnswer,
    ExecPiece,
    ExecStart,
    ExecStarted,
    ExecStop,
    ExecTurn,
)
from dms.executor.sessions import MAX_COMMAND_BYTES, MAX_SIDE, MAX_WORDS, ExecRequest, ExecSession
from dms.identity.ids import ActorID
from dms.observe import get_logger
from dms.types.errors import DMSError

MAX_SESSIONS = 8
"""Of one allocation, at once."""
MAX_OUTPUT_BYTES = 256 * 1024
"""Read and not yet taken by the caller; also the most that one answer holds."""
MAX_INPUT_BYTES = 256 * 1024
"""Taken from the caller and not yet by the command."""
IDLE_S = 60.0
MAX_WAIT_S = 20.0
LINGER_S = 30.0
"""How long the end of a session is remembered, for callers that did not hear of it."""

Open = Callable[[ExecRequest], Awaitable[ExecSession]]

log = get_logger(__name__)


class ExecSessions:
    """The sessions of one allocation; only ``owner`` has any.

    :param open_: runs a command in the sandbox, or says why not.
    """

    def __init__(self, actor: Actor, owner: ActorID, open_: Open) -> None:
        self._actor, self._owner, self._open = actor, owner, open_
        self._sessions: dict[str, Session] = {}
        self._opening = 0

    def register(self) -> None:
        """Answer on the allocation's actor."""
        table = (
            (EXEC_START, self._on_start, ExecStart, lambda error: ExecStarted(ok=False, error=error)),
            (EXEC_TURN, self._on_turn, ExecTurn, lambda error: ExecAnswer(ok=False, error=error)),
            (EXEC_STOP, self._on_stop, ExecStop, lambda error: ExecAnswer(ok=False, error=error)),
        )
        for name, handler, payload, error_reply in table:
            self._actor.on(name, handler, payload=payload, error_reply=error_reply)

    async def _on_start(self, message: Message[ExecStart]) -> ExecStarted:
        try:
            request = request_of(message.payload)
            self._check_owner(message.sender.id)
            live = sum(not session.is_over for session in self._sessions.values())
            if live + self._opening >= MAX_SESSIONS:
                raise ExecRefused(f"{MAX_SESSIONS} commands run in this allocation already", hint="end one of them")
            self._opening += 1
            try:
                command = await self._open(request)
            finally:
                self._opening -= 1
        except DMSError as exc:
            return ExecStarted(ok=False, error=exc.message, hint=exc.hint)
        session = Session(command)
        identifier = secrets.token_hex(16)
        self._sessions[identifier] = session
        self._actor.start_soon(self._keep, identifier, session)
        return ExecStarted(ok=True, session=identifier)

    async def _on_turn(self, message: Message[ExecTurn]) -> ExecAnswer:
        turn = message.payload
        session = self._find(turn.session, message.sender.id)
        session.touch()
        if turn.rows > 0 and turn.columns > 0:
            await session.command.resize(min(turn.rows, MAX_SIDE), min(turn.columns, MAX_SIDE))
        with trio.move_on_after(min(max(turn.wait_ms, 0) / 1000, MAX_WAIT_S)):
            if turn.is_deaf:
                while not session.take(turn):
                    await session.wait_for_change()
            else:
                session.take(turn)
                session.drop_before(turn.offset)  # first: a command that stands still for lack of room says nothing new
                while not session.has_news(turn.offset):
                    await session.wait_for_change()
        session.touch()
        return session.answer(turn)

    async def _on_stop(self, message: Message[ExecStop]) -> ExecAnswer:
        session = self._find(message.payload.session, message.sender.id)
        session.end_it("the command was ended")
        return ExecAnswer(ok=True, ended=True, next_offset=session.end)

    def _find(self, identifier: str, sender: ActorID) -> Session:
        self._check_owner(sender)
        session = self._sessions.get(identifier)
        if session is None:
            raise SessionNotFound
        return session

    def _check_owner(self, sender: ActorID) -> None:
        if sender != self._owner:
            raise ExecRefused("only the orchestrator of this allocation may run commands in it")

    async def _keep(self, identifier: str, session: Session) -> None:
        try:
            await session.run()
            await trio.sleep(LINGER_S)
        finally:
            self._sessions.pop(identifier, None)


class Session:
    """One command and whoever talks with it."""

    def __init__(self, command: ExecSession) -> None:
        self.command = command
        self._scope = trio.CancelScope()
        self.is_over = False
        self.error, self.exit_code = "", -1
        self._output: deque[tuple[str, bytes]] = deque()
        self._start, self.end = 0, 0
        self._input = bytearray()
        self._taken, self._is_input_over = 0, False
        self._changed = trio.Event()
        self.touch()

    # what callers do -------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Its caller is there."""
        self._scope.deadline = trio.current_time() + IDLE_S

    def end_it(self, why: str) -> None:
        """End the command."""
        self.error = self.error or why
        self._scope.cancel()

    def take(self, turn: ExecTurn) -> bool:
        """Take as much input as there is room for; whether that was all."""
        new = turn.input[max(0, self._taken - turn.input_offset) :] if turn.input_offset <= self._taken else b""
        if not self._is_input_over:
            part = new[: MAX_INPUT_BYTES - len(self._input)]
            self._input += part
            self._taken += len(part)
            end = turn.input_offset + len(turn.input)
            if turn.input_end and self._taken >= end:
                self._is_input_over = True
            if part or self._is_input_over:
                self._tell()
        return self._is_input_over or self.is_over or self._taken >= turn.input_offset + len(turn.input)

    def has_news(self, offset: int) -> bool:
        """Whether there is anything to say to somebody who has got so far."""
        return self.is_over or self.end > offset

    async def wait_for_change(self) -> None:
        """Until something happens to it."""
        await self._changed.wait()

    def answer(self, turn: ExecTurn) -> ExecAnswer:
        """What follows the place where the caller is."""
        if turn.is_deaf:
            return ExecAnswer(ok=True, offset=turn.offset, next_offset=turn.offset, input_taken=self._taken)
        pieces = tuple(ExecPiece(stream=stream, data=data) for stream, data in self._output)
        return ExecAnswer(
            ok=True,
            error=self.error,
            output=pieces,
            offset=self._start,
            next_offset=self.end,
            input_taken=self._taken,
            ended=self.is_over,
            exit_code=self.exit_code if self.is_over else None,
        )

    def drop_before(self, offset: int) -> None:
        """Forget what the caller has."""
        while self._output and self._start < offset:
            stream, data = self._output.popleft()
            over = self._start + len(data) - offset
            if over > 0:
                self._output.appendleft((stream, data[-over:]))
                self._start = offset
            else:
                self._start += len(data)
            self._tell()

    # what the command does -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry input and output until the command has ended, or its caller has gone."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    nursery.cancel_scope.cancel()
                self.exit_code = await self.command.exit_code()
        except DMSError as exc:
            self.error = exc.message
        except BaseExceptionGroup as group:
            known, unknown = group.split(DMSError)
            if unknown is not None or known is None:
                raise
            self.error = str(known.exceptions[0])
        finally:
            if self._scope.cancelled_caught:
                self.error = self.error or "nothing was heard from whoever asked for it"
            self.is_over = True
            self._tell()
            with trio.CancelScope(shield=True):
                await self.command.aclose()

    async def _read(self) -> None:
        while True:
            while self.end - self._start >= MAX_OUTPUT_BYTES:
                await self._changed.wait()
            piece = await self.command.receive()
            if piece is None:
                return
            stream, data = piece
            if data:
                self._output.append((stream, data))
                self.end += len(data)
                self._tell()

    async def _write(self) -> None:
        while True:
            while not self._input and not self._is_input_over:
                await self._changed.wait()
            if not self._input:
                await self.command.end_input()
                return
            data = bytes(self._input)
            await self.command.send(data)
            del self._input[: len(data)]
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def request_of(start: ExecStart) -> ExecRequest:
    """What is asked for, within bounds; the execution is filled in by whoever knows it.

    :raises ExecRefused: there is no command, or it is too long.
    """
    words = start.command or ()
    if not words or not words[0]:
        raise ExecRefused("there is no command to run")
    size = sum(len(word.encode("utf-8", "replace")) + 1 for word in words)
    if len(words) > MAX_WORDS or size > MAX_COMMAND_BYTES:
        raise ExecRefused(f"the command is too long: at most {MAX_WORDS} words and {MAX_COMMAND_BYTES} bytes")
    if any("\0" in word for word in words):
        raise ExecRefused("a word of the command holds a zero byte")
    rows = start.rows if 0 < start.rows <= MAX_SIDE else 24
    columns = start.columns if 0 < start.columns <= MAX_SIDE else 80
    return ExecRequest("", words, has_input=start.stdin, tty=start.tty, rows=rows, columns=columns)
