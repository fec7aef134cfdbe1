"""``nunet actor cmd``: call a behaviour and print its reply. One subcommand for each that is known, made from the table.

Options that say who acts and how long stand before or after the behaviour; after it they win.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dms.cli.behaviours import KNOWN, Flag, KnownBehaviour, absent, find
from dms.cli.options import Context, Destination, Expiry, Timeout

if TYPE_CHECKING:
    from dms.cli.client import Client

COMMON: dict[str, Any] = {"context": Context, "dest": Destination, "timeout": Timeout, "expiry": Expiry}


class BehaviourGroup(TyperGroup):
    """A command per known behaviour; every other path is a command as well, with ``--payload``."""

    def list_commands(self, ctx: Any) -> list[str]:  # Any: the context class has no public name
        """The known behaviours."""
        return [behaviour.name for behaviour in KNOWN]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # as above
        """A command for any path."""
        from dms.cli.root import plain

        if not cmd_name.startswith("/"):
            return None
        behaviour = find(cmd_name)
        if behaviour is None and (what := absent(cmd_name)):
            return _refusal(cmd_name, what)
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name, help=_help_of(cmd_name, behaviour))(_function(cmd_name, behaviour))
        return plain(get_command(one))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # as above
        """As the framework, with a word on what behaviours look like."""
        if args and not args[0].startswith(("/", "-")):
            ctx.fail(f'unknown behaviour "{args[0]}": behaviours are paths, such as {_closest(args[0])}')
        return super().resolve_command(ctx, args)


def _closest(name: str) -> str:
    """A known behaviour that ends like ``name``, or any."""
    return next((known.name for known in KNOWN if known.name.endswith(f"/{name}")), "/public/hello")


app = typer.Typer(name="cmd", cls=BehaviourGroup, no_args_is_help=True)


@app.callback()
def cmd(context: Context = None, dest: Destination = None, timeout: Timeout = None, expiry: Expiry = None) -> None:
    """Call a behaviour and print the payload of its reply as JSON; of a broadcast, a list of them.

    Each behaviour has its own flags. A path that is not listed is called with --payload.

    Examples:
      nunet actor cmd /dms/node/peers/list
      nunet actor cmd -c user /dms/node/onboarding/onboard -C 2 -R 4 -D 10 --no-gpu
      nunet actor cmd /broadcast/hello -t 5s
      nunet actor cmd /dms/node/custom --payload '{"key":"value"}'
    """


def _help_of(name: str, behaviour: KnownBehaviour | None) -> str:
    if behaviour is None:
        text, example = f"Call {name}", " --payload '{…}'"
    else:
        text = behaviour.help
        example = "".join(f" {flag.short or '--' + flag.name} …" for flag in behaviour.flags if flag.is_required)
    return f"{text}.\n\nExamples:\n  nunet actor cmd {name}{example}"


def _refusal(name: str, what: str) -> Any:  # a command of the framework
    """A command that takes any flags and says that there is no such behaviour here."""
    from dms.cli.errors import RefusedUnknown
    from dms.cli.root import plain

    one = typer.Typer(add_completion=False, rich_markup_mode=None)

    @one.command(
        name,
        help=f"{what[0].upper()}{what[1:]}: not in this version.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def refuse() -> None:
        raise RefusedUnknown(
            f"this version does not have {name} ({what})", hint="nunet cap help lists the behaviours that it has"
        )

    return plain(get_command(one))


def _function(name: str, behaviour: KnownBehaviour | None) -> Callable[..., None]:
    """A function whose signature holds the flags, for the framework to read."""
    flags = behaviour.flags if behaviour else ()

    def call(ctx: typer.Context, **values: Any) -> None:
        _call(ctx, name, behaviour, values)

    own = [_parameter(flag) for flag in flags]
    own.append(
        _keyword(
            "payload", Annotated[str | None, typer.Option("--payload", metavar="JSON", help="The payload as it is.")]
        )
    )
    if behaviour is None:
        topic = typer.Option("--topic", metavar="TOPIC", help="Broadcast it on this topic.")
        own.append(_keyword("topic", Annotated[str | None, topic]))
    common = [_keyword(key, annotation) for key, annotation in COMMON.items()]
    first = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    call.__signature__ = inspect.Signature([first, *own, *common])  # type: ignore[attr-defined]
    call.__annotations__ = {}
    return call


def _parameter(flag: Flag) -> inspect.Parameter:
    names = [name for name in (flag.short, f"--{flag.name}") if name]
    option = typer.Option(*names, help=flag.help)
    if flag.kind is bool:
        return _keyword(_key(flag), Annotated[bool, option], default=False)
    kind: Any = list[str] if flag.kind is list else flag.kind
    return _keyword(_key(flag), Annotated[kind | None, option])


def _keyword(name: str, annotation: Any, default: object = None) -> inspect.Parameter:  # Any: an annotated type
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _key(flag: Flag) -> str:
    key = flag.name.replace("-", "_")
    return f"{key}_" if keyword.iskeyword(key) else key


def _call(ctx: typer.Context, name: str, behaviour: KnownBehaviour | None, values: dict[str, Any]) -> None:
    from dms.cli.client import DEFAULT_TIMEOUT_S
    from dms.cli.options import lifetime
    from dms.cli.output import as_json
    from dms.cli.session import Session
    from dms.types import gojson

    given = dict(ctx.parent.params) if ctx.parent else {}
    given |= {key: values[key] for key in COMMON if values.get(key) is not None}
    if values.get("timeout") or values.get("expiry"):  # either one after the behaviour replaces both before it
        given |= {key: values.get(key) for key in ("timeout", "expiry")}
    default_s = behaviour.timeout_s if behaviour and behaviour.timeout_s else DEFAULT_TIMEOUT_S
    timeout_s = lifetime(given.get("timeout"), given.get("expiry"), default_s)
    payload = _payload(behaviour, values)
    client = Session.of(ctx).client(given.get("context"))
    topic = behaviour.topic if behaviour else values.get("topic")
    if topic and not given.get("dest"):
        print(as_json(_broadcast(client, topic, name, payload, timeout_s)))
        return
    to = client.destination(given.get("dest"))
    reply = client.invoke(client.message(to, name, payload, timeout_s=timeout_s))
    print(as_json(gojson.parse(reply.msg or b"null")))


def _broadcast(client: Client, topic: str, name: str, payload: object, timeout_s: float) -> list[Any]:
    from dms.types import gojson

    replies = client.broadcast(client.broadcast_message(topic, name, payload, timeout_s=timeout_s))
    return [gojson.parse(reply.msg or b"null") for reply in replies]


def _payload(behaviour: KnownBehaviour | None, values: dict[str, Any]) -> Any:  # JSON of unknown shape
    from dms.types import gojson
    from dms.types.errors import BadInput, BadJSON

    text = values.get("payload")
    if text is not None:
        try:
            return gojson.parse(text.encode("utf-8", "surrogateescape"))
        except BadJSON as exc:
            hint = 'quote it for the shell: --payload \'{"key":"value"}\''
            raise BadInput(f"--payload is {exc.message}", hint=hint) from None
    if behaviour is None:
        return None
    for flag in behaviour.flags:
        if flag.is_required and values.get(_key(flag)) in (None, ""):
            names = " or ".join(n for n in (flag.short, f"--{flag.name}") if n)
            raise BadInput(f"{behaviour.name} needs {names}", hint=f"nunet actor cmd {behaviour.name} --help")
    return behaviour.payload(values)
