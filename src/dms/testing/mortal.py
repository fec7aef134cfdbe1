"""A daemon that dies by its own hand, with ``SIGKILL``, at a chosen write of its database.

Between two writes nothing of a daemon outlives it, so the writes are the moments at which its death can make a
difference: just before one is on the disk, when all that led to it has happened, and just after, when nothing of what
follows from it has. A signal from outside cannot hit either.

``python -m dms.testing.mortal MODULE ARGS…`` runs a module like that. It lives until there is a file :data:`FILE` in
its working directory (see :func:`let_die`).
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import Pool

MODULE = "dms.testing.mortal"
FILE = "dies-at"
DOOMED = "doomed"

When = Literal["before", "after"]


def let_die(directory: Path, when: When, words: Sequence[str]) -> None:
    """From now on the daemon that works in ``directory`` dies at a statement that contains all ``words``, its parameters
    included: ``before`` its transaction is on the disk, or ``after`` that.
    """
    written = directory / f"{FILE}.new"
    written.write_text(json.dumps([when, *words]))
    written.rename(directory / FILE)


def _on_statement(
    connection: Connection, _cursor: object, statement: str, parameters: Any, _context: object, _many: bool
) -> None:
    try:
        when, *words = json.loads(Path(FILE).read_text())
    except FileNotFoundError:
        return
    said = f"{statement} {parameters!r}"
    if not all(word in said for word in words):
        return
    if when == "before":
        _die()
    connection.info[DOOMED] = True


def _on_checkin(_connection: object, record: Any) -> None:
    """The transaction is over: committed, as an error would have told."""
    if record.info.get(DOOMED):
        _die()


def _die() -> None:
    Path(FILE).unlink()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    event.listen(Engine, "after_cursor_execute", _on_statement)
    event.listen(Pool, "checkin", _on_checkin)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
