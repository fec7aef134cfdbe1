"""The root of the command tree: global options, and a group that imports a command only when it is called."""

# ruff: noqa: ARG001  the options of the callback are read from the root context, by dms.cli.session

from __future__ import annotations

import difflib
import importlib
import os
import re
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from dms.cli.commands import COMMANDS, COMPLETE_VARIABLE, PROGRAM, find, root_help

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What the framework raises when it cannot read the arguments; it has no public name of its own."""

_EXAMPLES = re.compile(r"(?m)^(Examples?:|Exit codes:|Notes?:)$")


class LazyGroup(TyperGroup):
    """The root: names from the table, code on demand."""

    def list_commands(self, ctx: Any) -> list[str]:  # Any: the context class has no public name
        """The names that are shown."""
        return [command.name for command in COMMANDS if not command.is_hidden]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # as above
        """Import the command, or ``None``."""
        command = find(cmd_name)
        return None if command is None else load(command.target, command.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # as above
        """As the framework, with the words that callers of the original look for."""
        name = args[0]
        if find(name) is None and not name.startswith("-"):
            ctx.fail(_unknown(name, [command.name for command in COMMANDS]))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # as above
        """From the table."""
        formatter.write(root_help() + "\n")

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # as above
        """From the table: nothing is imported to complete a name."""
        names = [command for command in COMMANDS if command.name.startswith(incomplete) and not command.is_hidden]
        options = super().shell_complete(ctx, incomplete) if incomplete.startswith("-") else []
        return options if incomplete.startswith("-") else [_completion(c.name, c.help) for c in names]


def load(target: str, name: str) -> Any:  # a command of the framework
    """Import ``module:attribute`` and make a command of it."""
    module_name, _, attribute = target.partition(":")
    return _made(getattr(importlib.import_module(module_name), attribute), name)


@cache  # it takes longer than most commands
def _made(found: Any, name: str) -> Any:  # as above
    if isinstance(found, typer.Typer):
        command: Any = get_group(found)
        command.name = name
        return plain(command)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(found)
    return plain(get_command(app))


def plain(command: Any) -> Any:  # a command of the framework
    """Help as plain text that keeps the lines of examples, ``-h`` beside ``--help``; for a command and all below it."""
    command.rich_markup_mode = None
    command.context_settings = {"help_option_names": ["-h", "--help"], **(command.context_settings or {})}
    if command.help:
        command.short_help = command.short_help or _first_sentence(command.help)
        command.help = _EXAMPLES.sub("\b\n\\1", command.help)
    for below in getattr(command, "commands", {}).values():
        plain(below)
    return command


def wording(exc: Any) -> tuple[str, str, int]:  # a usage error of the framework
    """Message, hint and exit code of a usage error; an empty message with the help as hint is a call for help."""
    if type(exc).__name__ == "NoArgsIsHelpError":
        return "", exc.format_message(), 0
    message = exc.format_message().strip()
    option = getattr(exc, "option_name", "")
    if type(exc).__name__ == "NoSuchOption":
        message = f"unknown flag: {option}"
        if close := getattr(exc, "possibilities", None):
            message += f". Did you mean {' or '.join(close)}?"
    ctx = getattr(exc, "ctx", None)
    path = ctx.command_path if ctx is not None else PROGRAM
    return message, f"{path} --help shows how it is used", getattr(exc, "exit_code", 2)


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _root(
    ctx: typer.Context,
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Configuration file.")] = None,
    network: Annotated[str | None, typer.Option(metavar="NAME", help="A local network.", envvar="DMS_NETWORK")] = None,
    node: Annotated[str | None, typer.Option(metavar="N|NAME", help="A node of it.", envvar="DMS_NODE")] = None,
    rest_addr: Annotated[str | None, typer.Option(metavar="ADDR", help="Address of the REST server.")] = None,
    rest_port: Annotated[int | None, typer.Option(metavar="PORT", help="Its port.")] = None,
    user_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Keys and contexts.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Deploys work on other people's machines and runs theirs on yours."""
    if version:
        from dms import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def root_command() -> Any:  # a command of the framework
    """The whole tree, none of it imported yet."""
    if os.environ.get(COMPLETE_VARIABLE):
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()  # makes the framework know its shells
    return _tree()


@cache
def _tree() -> Any:  # as above
    return plain(get_group(app))


def _first_sentence(text: str) -> str:
    first = " ".join(text.split("\n\n", 1)[0].split())
    return first.split(". ")[0].split(": ")[0].rstrip(".")


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=2)
    text = f'unknown command "{name}" for "{PROGRAM}"'
    return f"{text}. Did you mean {' or '.join(close)}?" if close else text


def _completion(value: str, text: str) -> Any:  # an item of the framework's completion
    from typer.core import CompletionItem  # type: ignore[attr-defined]  # it has no public name

    return CompletionItem(value, help=text)
