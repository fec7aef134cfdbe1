"""Talking with a command that runs in an allocation: two directions at once, each in turns that may be repeated.

The output is asked for in the calling thread; the input, which waits for whoever types, goes from a thread of its own.
What is signed is signed one after the other.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from dms.allocation.exec_messages import ExecAnswer, ExecStarted
from dms.cli.client import Client, invoke_signed, refused
from dms.cli.errors import NoReply
from dms.node.exec_payloads import ExecStartRequest, ExecStopRequest, ExecTurnRequest
from dms.types.errors import DMSError, Unavailable

NAMESPACE = "/dms/node/deployment/exec"
WAIT_MS = 10_000
"""How long a turn may wait for something to happen."""
CALL_TIMEOUT_S = 30.0
TRIES = 3
PIECE_BYTES = 64 * 1024
PIECES_WAITING = 4
ESCAPE = b"\x10\x11"
"""Ctrl-P Ctrl-Q."""

Writer = Callable[[bytes], object]
R = TypeVar("R")


class Conversation:
    """One command of one allocation."""

    def __init__(self, client: Client, identifier: str, allocation: str) -> None:
        self._client, self._id, self._allocation = client, identifier, allocation
        self._session = ""
        self._signing = threading.Lock()
        self._out: queue.Queue[bytes | tuple[int, int] | None] = queue.Queue(PIECES_WAITING)
        self._failure: DMSError | None = None
        self._is_left = False

    def start(self, command: tuple[str, ...], *, stdin: bool, tty: bool, rows: int, columns: int) -> None:
        """Run it.

        :raises Refused: the node, the provider or the executor does not want to.
        """
        request = ExecStartRequest(
            id=self._id,
            allocation=self._allocation,
            command=command,
            stdin=stdin,
            tty=tty,
            rows=rows,
            columns=columns,
        )
        reply = self._call("start", request, ExecStarted, timeout_s=2 * CALL_TIMEOUT_S)
        if not reply.ok:
            raise refused(reply.error, reply.hint)
        self._session = reply.session

    def give_input(self, descriptor: int, *, has_escape: bool = False) -> None:
        """Send what is read there from now on, until its end."""
        threading.Thread(target=self._read, args=(descriptor, has_escape), daemon=True).start()
        threading.Thread(target=self._send, daemon=True).start()

    def resize(self, rows: int, columns: int) -> None:
        """The terminal has another size; a size that would have to wait is left out."""
        try:
            self._out.put_nowait((rows, columns))
        except queue.Full:
            return

    def listen(self, stdout: Writer, stderr: Writer) -> int:
        """Write what it says until it ends; its exit code.

        :raises Refused: it was ended otherwise.
        """
        offset = 0
        while True:
            answer = self._turn(ExecTurnRequest(offset=offset, wait_ms=WAIT_MS))
            for piece in answer.output:
                (stderr if piece.stream == "stderr" else stdout)(piece.data)
            offset = answer.next_offset
            if self._failure is not None:
                raise self._failure
            if answer.ended:
                if self._is_left:
                    return 130
                if answer.error or answer.exit_code is None:
                    raise refused(answer.error or "nobody knows how the command ended")
                return answer.exit_code

    def stop(self) -> None:
        """End it; that it cannot be reached is not our worry any more."""
        request = ExecStopRequest(id=self._id, allocation=self._allocation, session=self._session)
        try:
            self._call("stop", request, ExecAnswer)
        except DMSError:
            return

    def _read(self, descriptor: int, has_escape: bool) -> None:
        tail = b""
        while True:
            try:
                data = os.read(descriptor, PIECE_BYTES)
            except OSError:
                data = b""
            if has_escape and ESCAPE in tail + data:
                self._is_left = True
                self.stop()
                return
            tail = data[-1:]
            self._out.put(data or None)
            if not data:
                return

    def _send(self) -> None:
        offset = 0
        try:
            while True:
                item = self._out.get()
                if isinstance(item, tuple):
                    self._turn(ExecTurnRequest(is_deaf=True, input_offset=offset, rows=item[0], columns=item[1]))
                    continue
                if item is None:
                    self._turn(ExecTurnRequest(is_deaf=True, input_offset=offset, input_end=True))
                    return
                end = offset + len(item)
                while offset < end:
                    rest = item[len(item) - (end - offset) :]
                    turn = ExecTurnRequest(is_deaf=True, input_offset=offset, input=rest, wait_ms=WAIT_MS)
                    offset = max(offset, self._turn(turn).input_taken)
        except DMSError as exc:
            self._failure = exc

    def _turn(self, turn: ExecTurnRequest) -> ExecAnswer:
        """One turn, again if nobody answered: it does nothing twice."""
        from msgspec.structs import replace

        turn = replace(turn, id=self._id, allocation=self._allocation, session=self._session)
        timeout_s = CALL_TIMEOUT_S + turn.wait_ms / 1000
        for attempt in range(TRIES):
            try:
                answer = self._call("io", turn, ExecAnswer, timeout_s=timeout_s)
            except (NoReply, Unavailable):
                if attempt == TRIES - 1:
                    raise
                continue
            if not answer.ok:
                raise refused(answer.error)
            return answer
        raise AssertionError("the last attempt answers or raises")

    def _call(self, name: str, request: object, reply: type[R], *, timeout_s: float = CALL_TIMEOUT_S) -> R:
        with self._signing:
            message = self._client.message(self._client.node, f"{NAMESPACE}/{name}", request, timeout_s=timeout_s)
        return invoke_signed(self._client.rest, message).payload(reply)
