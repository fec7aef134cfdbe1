"""``nunet exec``: run a command in an allocation and talk with it (:mod:`dms.allocation.exec`)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID

if TYPE_CHECKING:
    from dms.cli.conversation import Conversation, Writer

DEFAULT_SIZE = os.terminal_size((80, 24))


def exec_(
    ctx: typer.Context,
    identifier: DeploymentID,
    allocation: Annotated[str, typer.Argument(help="Its name or NODE.NAME.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")],
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Give it our input.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal; needs one here.")] = False,
    context: Context = None,
) -> None:
    """Run a command in an allocation that runs, on whatever machine that is, and end with its exit code.

    Only who submitted the deployment may; providers may refuse it altogether, and not every executor has input and
    terminals: containers do. Without -t, Ctrl-C ends the command; with it, Ctrl-C goes to the command, and Ctrl-P Ctrl-Q
    ends it from outside. A command of whose caller nothing is heard for a minute is ended.

    Examples:
      nunet exec 3f2a serve -- ls -l /data
      nunet exec -it 3f2a serve -- sh
      nunet exec -i 3f2a serve -- sh -c 'cat >/data/in.csv' <in.csv
    """
    from dms.cli.conversation import Conversation
    from dms.cli.session import Session
    from dms.types.errors import BadInput

    if tty and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("there is no terminal here to give to the command", hint="leave -t out")
    talk = Conversation(Session.of(ctx).client(context), identifier, allocation)
    size = os.get_terminal_size() if tty else DEFAULT_SIZE
    talk.start(tuple(command), stdin=stdin or tty, tty=tty, rows=size.lines, columns=size.columns)
    try:
        code = _at_terminal(talk) if tty else _in_pipe(talk, stdin=stdin)
    except KeyboardInterrupt:
        talk.stop()
        raise typer.Exit(130) from None
    raise typer.Exit(code & 0xFF)


def _in_pipe(talk: Conversation, *, stdin: bool) -> int:
    if stdin:
        talk.give_input(sys.stdin.fileno())
    return talk.listen(_writer(sys.stdout.fileno()), _writer(sys.stderr.fileno()))


def _at_terminal(talk: Conversation) -> int:
    import signal
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    former = signal.signal(signal.SIGWINCH, lambda _number, _frame: talk.resize(*reversed(os.get_terminal_size())))
    try:
        tty.setraw(terminal, termios.TCSADRAIN)  # what was typed ahead is not thrown away
        talk.give_input(terminal, has_escape=True)
        write = _raw_writer(sys.stdout.fileno())
        return talk.listen(write, write)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, former)


def _writer(descriptor: int) -> Writer:
    """Every byte to files and pipes; a terminal that the command was not given cannot be steered by it."""
    from dms.cli.terminal import Harmless

    if not os.isatty(descriptor):
        return _raw_writer(descriptor)
    harmless, write = Harmless(), _raw_writer(descriptor)
    return lambda data: write(harmless.feed(data).encode())


def _raw_writer(descriptor: int) -> Writer:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write
