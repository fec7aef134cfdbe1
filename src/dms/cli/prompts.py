"""Questions to whoever sits at the terminal; they go to stderr, so that output can be piped."""

from __future__ import annotations

import typer

from dms.types.errors import DMSError


class Cancelled(DMSError):
    """operation cancelled by user"""

    code = "cancelled"


def confirm(question: str) -> None:
    """Ask until the answer is yes or no.

    :raises Cancelled: no, or nobody is there to answer.
    """
    import sys

    while True:
        typer.echo(f"{question} (y/N): ", nl=False, err=True)
        answer = sys.stdin.readline()  # typer.prompt writes a part of the question to stdout
        if not answer:
            raise Cancelled
        if answer.strip().lower() in ("y", "yes"):
            return
        if answer.strip().lower() in ("n", "no"):
            raise Cancelled


def ask_passphrase(*, new: bool = False) -> str:
    """The passphrase from ``DMS_PASSPHRASE`` or the terminal; a new one is asked for twice.

    :raises PassphraseFailed: none was given.
    """
    import os

    from dms.identity.passphrase import read_passphrase

    return read_passphrase(os.environ, ask_hidden, confirm=new, tell=lambda text: typer.echo(text, err=True))


def ask_hidden(prompt: str) -> str:
    """Ask without showing what is typed.

    :raises PassphraseFailed: nobody is there to answer.
    """
    import sys

    from dms.identity.errors import PassphraseFailed

    try:
        return str(typer.prompt(prompt, default="", hide_input=True, show_default=False, prompt_suffix="", err=True))
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise PassphraseFailed from None
