"""Daemons that die by their own hand, with ``SIGKILL``, at a chosen write of their database.

Between two writes nothing of a daemon outlives it, so the writes are the moments at which its death can make a
difference: just before one is on the disk, when all that led to it has happened, and just after, when nothing of what
follows from it has. A signal from outside cannot hit either.

``python -m dms.testing.mortal MODULE ARGS…`` runs a module like that, as a child that lives until there is a file
:data:`FILE` in its working directory (see :func:`let_die`). Its parent does nothing but wait for the death and start
another child once it is told to: it has the code loaded already, which is most of what a start costs.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import Pool

from dms.devnet import network, processes
from dms.testing.localnet import LocalNet
from dms.testing.looking import WAIT_S

MODULES = ("dms.testing.mortal", processes.MODULE)
UP = """
import sys; from pathlib import Path; from dms.devnet.network import up
up(Path(sys.argv[1]), 3, 2, modules=sys.argv[2:])
"""
FILE = "dies-at"
DOOMED = "doomed"

When = Literal["before", "after"]


@contextmanager
def mortal_net(directory: Path) -> Iterator[MortalNet]:
    """A local network of three such daemons, of which the first two offer resources."""
    subprocess.run([sys.executable, "-c", UP, directory, *MODULES], check=True)
    net = MortalNet(directory)
    parents = [psutil.Process(node.pid) for node in net.profile.nodes]
    try:
        yield net
    finally:
        network.down(directory)
        psutil.wait_procs(parents, timeout=WAIT_S)


class MortalNet(LocalNet):
    """See :func:`mortal_net`."""

    def process(self, name: str) -> psutil.Process:
        """The daemon itself.

        :raises ProcessLookupError: it is dead.
        """
        for child in psutil.Process(self.node(name).pid).children():
            return child
        raise ProcessLookupError(name)

    def start(self, name: str) -> None:
        """Have it started again."""
        os.kill(self.node(name).pid, signal.SIGUSR1)

    def is_running(self, name: str) -> bool:
        """Whether its daemon lives."""
        return bool(psutil.Process(self.node(name).pid).children())

    def doom(
        self, name: str, when: When, words: Sequence[str], number: signal.Signals = signal.SIGKILL
    ) -> psutil.Process:
        """From now on a node's daemon dies at the first statement that contains all ``words``, its parameters included:
        ``before`` its transaction is on the disk, or ``after`` that. With ``SIGSTOP`` it only stands still there.
        """
        file = Path(self.node(name).config).with_name(FILE)
        written = file.with_suffix(".new")
        written.write_text(json.dumps([number, when, *words]))
        written.rename(file)
        return self.process(name)

    def spare(self) -> None:
        """Who has not died yet lives on."""
        for node in self.profile.nodes:
            Path(node.config).with_name(FILE).unlink(missing_ok=True)


def _on_statement(
    connection: Connection, _cursor: object, statement: str, parameters: Any, _context: object, _many: object
) -> None:
    try:
        number, when, *words = json.loads(Path(FILE).read_text())
    except FileNotFoundError:
        return
    said = f"{statement} {parameters!r}"
    if not all(word in said for word in words):
        return
    if when == "before":
        _die(number)
    connection.info[DOOMED] = number


def _on_checkin(_connection: object, record: Any) -> None:
    """The transaction is over: committed, as an error would have told."""
    if number := record.info.pop(DOOMED, 0):
        _die(number)


def _die(number: int) -> None:
    Path(FILE).unlink()
    os.kill(os.getpid(), number)


def _keep(module: str) -> None:
    """Run it in a child, and in another one when that was killed and shall be started again."""
    import dms.app  # noqa: F401  so that no child has to load it

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    while (child := os.fork()) != 0:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            os._exit(max(code, 0))  # an orderly end would take a second, as the child's did already
        signal.sigwait({signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    event.listen(Engine, "after_cursor_execute", _on_statement)
    event.listen(Pool, "checkin", _on_checkin)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    _keep(sys.argv[0])
