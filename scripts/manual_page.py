"""Writes the manual page nunet(1) out of the command line: `scripts/manual_page.py >nunet.1`.

What a command says of itself with --help stands there; what concerns all of them is written here.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dms import __version__
from dms.cli.commands import PROGRAM
from dms.cli.root import root_command

DESCRIPTION = """
The device management service of a decentralised compute network: a daemon that offers processors, memory, disk and
graphics processors of this machine, and a command line that deploys ensembles of containers, virtual machines and
WebAssembly modules over the machines of others.

The daemon is started by "nunet run"; as a service: systemctl enable --now nunet. All other commands talk to it.
"""
FILES = (
    ("~/.nunet/dms_config.json", "Settings of a user; see the reference of the configuration."),
    ("/etc/nunet/service.json", "Settings of the service."),
    ("/etc/nunet/passphrase", "The passphrase of the service's key, for root only; handed over as a credential."),
    ("/var/lib/nunet", "Keys, capabilities, work and database of the service."),
    ("/var/log/nunet", "Its log."),
)
ENVIRONMENT = (
    ("DMS_PASSPHRASE", "The passphrase of the keys; without it the terminal is asked."),
    ("DMS_...", "Each setting: rest.port is DMS_REST_PORT."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd: the file passphrase in it is the passphrase."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC", "Set by systemd: where a service says that it is ready and alive."),
)
EXIT_CODES = Path(__file__).resolve().parent.parent / "docs" / "reference" / "exit-codes.md"


def page() -> Iterator[str]:
    """The lines of the page, in the language of man(7)."""
    root = root_command()
    context = root.context_class(root, info_name=PROGRAM)
    yield f'.TH NUNET 1 "" "nunet {__version__}" "User Commands"'
    yield from (".SH NAME", f"{PROGRAM} \\- offer this machine to a network, and deploy over the machines of others")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", "[OPTIONS] COMMAND [ARGUMENTS]")
    yield from (".SH DESCRIPTION", *_prose(DESCRIPTION))
    yield from (".SH OPTIONS", *_options(root, context))
    yield ".SH COMMANDS"
    for name in root.list_commands(context):
        yield from _command(root.get_command(context, name), name, context)
    for title, rows in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", tuple(_exit_codes()))):
        yield f".SH {title}"
        for term, meaning in rows:
            yield from _entry(term, meaning)
    yield from (".SH SEE ALSO", ".BR systemctl (1),", ".BR docker (1)")


# typer carries its own copy of click under a private name, so its commands and contexts have no type to write here.
def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    if command.hidden:
        return
    context = command.context_class(command, info_name=name, parent=parent)
    below = sorted(getattr(command, "commands", {}).items())
    if below:
        for child_name, child in below:
            yield from _command(child, child_name, context)
        return
    yield f".SS {_escaped(' '.join([context.command_path, *command.collect_usage_pieces(context)]))}"
    yield from _prose(command.help or "")
    yield from _options(command, context)


def _options(command: Any, context: Any) -> Iterator[str]:
    for parameter in command.params:
        record = None if parameter.param_type_name == "argument" else parameter.get_help_record(context)
        if record is not None:
            yield from _entry(*record)


def _entry(term: str, meaning: str) -> Iterator[str]:
    yield from (".TP", f".B {_escaped(term)}", _escaped(" ".join(meaning.split())) or "\\&")


def _prose(text: str) -> Iterator[str]:
    """Paragraphs; indented lines, such as examples, are kept as they are."""
    is_literal = False
    for line in inspect.cleandoc(text.replace("\b\n", "").replace("\f", "\n")).splitlines():
        if line.startswith(" ") != is_literal and line:
            is_literal = not is_literal
            yield ".nf" if is_literal else ".fi"
        yield _escaped(line) if line else ".PP"
    if is_literal:
        yield ".fi"


def _exit_codes() -> Iterator[tuple[str, str]]:
    for code, meaning in re.findall(r"^\| (\d+) \| ([^|]+) \|", EXIT_CODES.read_text(), re.MULTILINE):
        yield code, meaning.strip()


def _escaped(text: str) -> str:
    """Text that means nothing to the formatter."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
