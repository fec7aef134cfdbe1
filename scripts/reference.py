"""Writes the pages of the manual that are lists of what the code defines: settings, the ensemble format,
errors, commands, events, metrics.

    scripts/reference.py            writes docs/reference/{configuration,ensemble,errors,cli,events,metrics}.md
    scripts/reference.py --check    fails when one of them is not what it would write (`make check`)

A setting's default, an error's hint and a command's help stand in one place, the code; these pages cannot go stale.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dms
from dms.cli.commands import PROGRAM, root_help
from dms.cli.root import root_command
from dms.config.keys import Key, keys, sections
from dms.ensemble import format as ensemble_format
from dms.ensemble import machine_format
from dms.ensemble.containers import Object
from dms.node.metric_names import METRICS as NODE_METRICS
from dms.observe.catalogue import NODE_EVENTS
from dms.observe.deployment_events import DEPLOYMENT_EVENTS, OTHER
from dms.observe.events import EventKind
from dms.types.errors import DMSError

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by scripts/reference.py out of the code: change it there. -->"

CONFIGURATION = f"""
# Configuration

{NOTE}

[Configure a node](../how-to/configure.md) tells how settings are given, seen and changed. The file is `dms_config.json`; the
environment variable of a key is its name in capitals with `DMS_` before it and `_` for dots: `rest.port` is `DMS_REST_PORT`.

Keys marked *live* may change while the node runs, by `nunet config set --live`, or by a new value in the file and SIGHUP.
Secrets are never shown; `file:PATH` stands for the content of a file. Durations are written `90s`, `1h30m` or `30d`, paths may
begin with `~`.

`nunet config schema` prints all this as a JSON schema for editors, `nunet config init` writes a file with every key in comments.
"""

VARIABLES = """
## Variables that are no keys

| Variable | Meaning |
|---|---|
| `DMS_PASSPHRASE` | the passphrase of every keystore file; without it the terminal is asked |
| `BOOTSTRAP_PEERS` | as `DMS_P2P_BOOTSTRAP_PEERS`, which wins |
| `EDITOR` | what `nunet config edit` opens |
"""

EDGES = """
## Edges: `edges[]`

`{edges: [ONE, OTHER], rtt: 80, bw: 5000000}`: the round trip between two nodes takes at most `rtt` milliseconds, and at
least `bw` bits per second fit through. An edge that names a [group](#groups) holds for its members: `shape: all` (each with
each, unless given), `paired` (the first with the first …) or `ring` (each with the next one, inside one group).

## Groups

A node with `count: N` stands for N equal nodes, `NAME-0001` and so on, with allocations of their own that are numbered
likewise. `depends_on` inside the group and `ports` hold member by member; a supervisor that names an allocation of a group,
and an allocation of another node that depends on one, mean all of them; single members may be named there and in edges. The
environment of a member holds `NUNET_INDEX` (from 0), `NUNET_COUNT` and `NUNET_GROUP`.

## Dependencies: `depends_on`

A list of names, of `{allocation: NAME, condition: CONDITION}`, or a map `{NAME: {condition: CONDITION}}` as in Compose. Before
the allocation starts, each of the others

| Condition | |
|---|---|
| (none) | runs, and is well if it has a `healthcheck` |
| `service_started` | runs, or has run |
| `service_healthy` | is well; it needs a `healthcheck` |
| `service_completed_successfully` | has ended with exit code 0; it must be a `task` |
"""

ERRORS = f"""
# Errors

{NOTE}

What a command prints when it fails, and what stands under `code` in JSON. A message may be more specific than the
general one given here. *Retry* marks errors that may pass by themselves. See also [exit codes](exit-codes.md).
"""

ENSEMBLE = f"""
# Ensemble format

{NOTE}

YAML, or JSON, which is a part of it. [Write an ensemble](../how-to/write-an-ensemble.md) shows how the parts fit
together; `nunet validate FILE` reports everything that is wrong at once, with line and remedy, and
`nunet ensemble schema` prints the JSON schema for editors.

- **Names** of allocations and nodes become parts of host names: letters, digits and dashes, at most 63. Case does not
  tell them apart.
- **Sizes** are numbers with a unit: `B`, `KB` `MB` `GB` `TB` (powers of 1000), `KiB` `MiB` `GiB` `TiB` (powers of
  1024); without one they are GiB. **Clocks** take `MHz` and `GHz`; without a unit they are GHz. **Durations** are
  written `90s` or `1h30m`.
- **Bytes** that are not text stand in `!!binary "base64"`, or come from a file.
- **Placeholders** work in every text: `${{NAME}}` or `${{env:NAME}}` is a variable of your environment, `${{file:path}}`
  the content of a file beside the ensemble or below it, `${{X:-default}}` has a default, and `$${{` is `${{` itself.
- **Keys of your own** begin with `x-`; keys that carry a YAML anchor are left alone as well. Any other unknown key is
  reported with the nearest known one.

*Required* keys are marked with **•**.
"""

COMMANDS = f"""
# Commands

{NOTE}

`nunet COMMAND --help` says the same. Failures: [exit codes](exit-codes.md).
"""


EVENTS = f"""
# Events

{NOTE}

What a node tells while it runs. `nunet events` shows them, `nunet events -f --name 'allocation_*'` goes on and chooses;
programs ask the behaviour `/dms/node/events`. Elasticsearch gets them as documents whose `message` is the name. A name
keeps its meaning over releases, and fields are added, never changed.

A node keeps the last 2,000 events in memory; what happened to a deployment is on its disk as well (`nunet events ID`).
"""

OF_DEPLOYMENTS = """
## Deployments

Entries of the journal of a deployment that this node orchestrates. `nunet events ID --output json` has them without
`deployment_` before the name, as `kind`, and the fields as `detail`. Each may carry these fields too:

| Field | Meaning |
|---|---|
"""

METRICS = f"""
# Metrics

{NOTE}

`GET /metrics` on the REST address answers in the text format of Prometheus, where dots are underscores and counters end in
`_total`; OTLP collectors and Elastic APM get the names as they stand here ([how to](../how-to/watch-a-node.md)). Units are
those of the original. Metrics of payments come with payments.
"""


def main(arguments: list[str]) -> int:
    """Writes or checks the pages; returns the exit status."""
    pages: dict[str, Callable[[], Iterator[str]]] = {
        "configuration.md": configuration,
        "ensemble.md": ensemble,
        "errors.md": errors,
        "cli.md": commands,
        "events.md": events,
        "metrics.md": metrics,
    }
    stale = []
    for name, lines in pages.items():
        text = "\n".join(lines()).rstrip() + "\n"
        path = PAGES / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text)
            print(f"wrote docs/reference/{name}")
    if stale and "--check" in arguments:
        print(f"docs/reference: not up to date: {', '.join(stale)}; run: make docs")
        return 1
    print("reference: up to date")
    return 0


# --- events and metrics ------------------------------------------------------------------------------------------


def events() -> Iterator[str]:
    """Every event with its fields: those of the node, then those of deployments."""
    yield EVENTS.strip()
    for chapter, kinds in NODE_EVENTS.items():
        yield f"\n## {chapter}\n\n| Event | Meaning | Fields |\n|---|---|---|"
        yield from map(_event, kinds)
    always = OTHER.fields.items() - {("kind", OTHER.fields["kind"])}
    yield OF_DEPLOYMENTS.rstrip()
    yield from (f"| `{name}` | {meaning} |" for name, meaning in sorted(always))
    yield "\n| Event | Meaning | Fields |\n|---|---|---|"
    for kind in DEPLOYMENT_EVENTS.values():
        yield _event(kind, {name for name, _ in always})


def _event(kind: EventKind, known: Iterable[str] = ()) -> str:
    fields = [f"`{name}`: {meaning}" for name, meaning in kind.fields.items() if name not in known]
    return f"| `{kind.name}` | {kind.meaning} | {'; '.join(fields)}{'; …' if kind.is_open and fields else ''} |"


def metrics() -> Iterator[str]:
    """Every metric with its unit and labels."""
    yield METRICS.strip()
    for chapter, its in NODE_METRICS.items():
        yield f"\n## {chapter}\n\n| Metric | Kind | Unit | Meaning | Labels |\n|---|---|---|---|---|"
        for metric in its:
            labels = "; ".join(f"`{name}`: {meaning}" for name, meaning in metric.labels.items())
            yield f"| `{metric.name}` | {metric.kind.value} | {metric.unit} | {metric.meaning} | {labels} |"


# --- settings ----------------------------------------------------------------------------------------------------


def configuration() -> Iterator[str]:
    """Every key with type, default, unit and meaning."""
    yield CONFIGURATION.strip()
    of_section: dict[str, list[Key]] = {}
    for key in keys().values():
        of_section.setdefault(key.name.rpartition(".")[0], []).append(key)
    classes = dict(sections())
    for name, members in of_section.items():
        yield from ("", f"## {name}", "", (classes[name].__doc__ or "").strip(), "")
        yield from ("| Key | Type | Default | | Meaning |", "|---|---|---|---|---|")
        for key in members:
            takes = ", ".join(part for part in (key.kind, key.bounds, key.unit) if part)
            live = "live" if key.is_live else ""
            yield f"| `{key.name}` | {takes} | {_default(key.default)} | {live} | {_cell(key.meaning)} |"
    yield VARIABLES.rstrip()


def _default(value: object) -> str:
    if isinstance(value, list) and value:
        return "<br>".join(f"`{each}`" for each in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ("", None, []) else "empty"


# --- ensemble format ---------------------------------------------------------------------------------------------


def ensemble() -> Iterator[str]:
    """Every key of the job format, part by part."""
    f = ensemble_format
    parts = {
        "The file": f.FILE,
        "Allocation: `allocations.NAME`": f.ALLOCATION,
        "Execution, type `wasm`": f.WASM,
        "Execution, type `docker`": f.DOCKER,
        "Execution, type `null`": f.NULL,
        "Execution, type `firecracker`": f.FIRECRACKER,
        "Execution, type `containerd`": f.CONTAINERD,
        "Resources: `cpu`": machine_format.CPU,
        "Resources: `ram`": machine_format.RAM,
        "Resources: `disk`": machine_format.DISK,
        "Resources: `gpus[]`": machine_format.GPU,
        "Health check: `healthcheck`": f.HEALTH_CHECK,
        "Delivered keys: `keys[]`": f.KEY,
        "Volumes: `volume[]`": f.VOLUME,
        "Node: `nodes.NAME`": f.NODE,
        "Ports: `ports[]`": f.PORT,
        "Places: `location.accept[]`, `location.reject[]`": f.LOCATION,
        "Supervisor: `supervisor`": f.SUPERVISOR,
        "Contracts: `contracts.NAME`": f.CONTRACT,
    }
    yield ENSEMBLE.strip()
    for title, part in parts.items():
        yield from ("", f"## {title}", "", "| Key | | Meaning |", "|---|---|---|", *_members(part))
        if part is f.NODE:
            yield EDGES.rstrip()


def _members(part: Object) -> Iterator[str]:
    for name, member in part.members.items():
        names = ", ".join(f"`{each}`" for each in (name, *member.also))
        yield f"| {names} | {'•' if member.required else ''} | {_cell(member.doc)} |"


# --- errors ------------------------------------------------------------------------------------------------------


def errors() -> Iterator[str]:
    """Every error with code, exit code, message and hint, by package."""
    yield ERRORS.strip()
    for module, classes in sorted(_errors_by_package().items()):
        yield from ("", f"## {module}", "", "| Code | Exit | Retry | Message | Hint |", "|---|---|---|---|---|")
        for kind in sorted(classes, key=lambda kind: (kind.exit_code, kind.code)):
            message = (kind.__doc__ or "").strip().splitlines()[0]
            retry = "yes" if kind.retryable else ""
            yield f"| `{kind.code}` | {kind.exit_code} | {retry} | {_cell(message)} | {_cell(kind.default_hint)} |"


def _errors_by_package() -> dict[str, set[type[DMSError]]]:
    for module in pkgutil.walk_packages(dms.__path__, "dms."):
        if module.name.endswith(".errors"):
            importlib.import_module(module.name)
    found: dict[str, set[type[DMSError]]] = {}
    for kind in _descendants(DMSError):
        package = kind.__module__.removeprefix("dms.").removesuffix(".errors")
        found.setdefault("general" if package == "types" else package, set()).add(kind)
    return found


def _descendants(kind: type[DMSError]) -> Iterator[type[DMSError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


# --- commands ----------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Every command with its arguments, options and examples."""
    root = root_command()
    context = root.context_class(root, info_name=PROGRAM)
    yield from (COMMANDS.strip(), "", f"## {PROGRAM}", "", "```text", root_help(), "```")
    for name in root.list_commands(context):
        yield from _command(root.get_command(context, name), name, context)


# typer carries its own copy of click under a private name, so its commands and contexts have no type to write here.
def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    """One command and, for a group, all below it."""
    if command.hidden:
        return
    context = command.context_class(command, info_name=name, parent=parent)
    options = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    yield from ("", f"## {context.command_path}", "", f"`{_usage(command, context)}`", "", *_prose(command.help or ""))
    if options:
        yield from ("", "| | Default | |", "|---|---|---|")
    for parameter in options:
        yield f"| {_parameter(parameter)} | {_initial(parameter)} | {_cell(getattr(parameter, 'help', '') or '')} |"
    for below, child in sorted(getattr(command, "commands", {}).items()):
        yield from _command(child, below, context)


def _usage(command: Any, context: Any) -> str:
    words = [context.command_path]
    if hasattr(command, "commands"):
        return f"{words[0]} COMMAND"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = _parameter(parameter).strip("`")
            words.append(name if parameter.required else f"[{name}]")
    return " ".join([*words, "[OPTIONS]"])


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag or not parameter.metavar else f"{names} {parameter.metavar}"


def _initial(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if isinstance(default, bool):
        return f"`{parameter.opts[0]}`" if default else ""
    if callable(default) or default in (None, "", False, ()) or "UNSET" in repr(default):
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _prose(text: str) -> Iterator[str]:
    """Help as Markdown: what is indented below a word with a colon, such as "Examples:", becomes a block."""
    lines = inspect.cleandoc(text.replace("\b\n", "").replace("\f", "\n")).splitlines()
    block = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if block and not line.startswith(" "):
            yield "```"
            block = False
        yield line.removeprefix("  ") if block else line
        if re.fullmatch(r"[A-Z][\w ]*:", line) and following.startswith(" "):
            yield from ("", "```text")
            block = True
    if block:
        yield "```"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
