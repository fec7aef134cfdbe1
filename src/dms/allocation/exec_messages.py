"""Payloads of commands inside an allocation; ours, the original has none.

A session is a conversation in turns, each a message of its own: the caller says how far it has got in the output and gives
input with its place, the provider answers with what follows and how much input it took. So a turn that is lost is
simply taken again, and nobody holds more than a bound of what the other does not want yet.
"""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire

EXEC_START = "/dms/allocation/exec/start"
EXEC_TURN = "/dms/allocation/exec/io"
EXEC_STOP = "/dms/allocation/exec/stop"


class ExecStart(Wire):
    """Run a command beside the workload; ``rows`` and ``columns`` are of the ``tty``."""

    command: tuple[str, ...] | None = ()
    stdin: bool = False
    tty: bool = False
    rows: int = 0
    columns: int = 0


class ExecStarted(Wire):
    """The session, or why there is none."""

    ok: bool
    error: str = ""
    hint: str = ""
    session: str = ""


class ExecTurn(Wire):
    """One turn. ``offset``: bytes of output that the caller has. ``input`` begins ``input_offset`` bytes after the beginning
    of all input, ``input_end`` says that nothing follows it. ``wait_ms``: how long the answer may wait for something to
    say. ``is_deaf``: no output is wanted now, only the input shall be taken."""

    session: str = ""
    offset: int = 0
    input_offset: int = 0
    input: bytes = b""
    input_end: bool = False
    rows: int = 0
    columns: int = 0
    wait_ms: int = 0
    is_deaf: bool = False


class ExecPiece(Wire):
    """Output: of ``stdout`` or ``stderr``."""

    stream: str
    data: bytes


class ExecAnswer(Wire):
    """The output from ``offset`` on; all input up to ``input_taken`` was taken. ``ended``: no more will come, and how the
    command ended, or why that is not known."""

    ok: bool
    error: str = ""
    output: tuple[ExecPiece, ...] = ()
    offset: int = 0
    next_offset: int = 0
    input_taken: int = 0
    ended: bool = False
    exit_code: int | None = msgspec.field(default=None)


class ExecStop(Wire):
    """End the command."""

    session: str = ""
