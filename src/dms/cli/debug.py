"""``nunet debug``: a bundle for whoever helps to find a defect, without secrets.

What the node tells, and what lies on this machine where it tells nothing. Everything goes through the same net as the log;
secrets that are known here (the passphrase, keys of services) are looked for in every byte.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dms.cli.options import Context

if TYPE_CHECKING:
    from dms.cli.client import Client
    from dms.cli.session import Session

DEFAULT_LINES = 2_000
TAIL_BYTES = 8 << 20
ASK_S, HASTY_S = 10.0, 1.0
"""How long an answer is waited for: at first, and once there was none."""
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("peers", "/dms/node/peers/list"),
    ("onboarding", "/dms/node/onboarding/status"),
    ("resources-offered", "/dms/node/resources/onboarded"),
    ("resources-free", "/dms/node/resources/free"),
    ("hardware", "/dms/node/hardware/spec"),
    ("usage", "/dms/node/hardware/usage"),
    ("allocations", "/dms/node/allocations/list"),
    ("deployments", "/dms/node/deployment/list"),
    ("doctor-work", "/dms/node/doctor/work"),
)
"""What the node is asked for; ensembles and the environment of jobs are not."""
VARIABLES = ("DMS_", "NUNET_", "XDG_", "BOOTSTRAP_PEERS", "DOCKER_HOST", "LANG", "LC_ALL", "TERM", "PATH", "HOME")


def debug(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="Where to; else nunet-debug-TIME.tar.gz here.")
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", min=0, metavar="N", help="Of the log, at most so many of the last.")
    ] = DEFAULT_LINES,
    context: Context = None,
) -> None:
    """Pack what helps to find a defect: version, settings, health, log, events, peers, offers, metrics.

    Keys, passphrases, tokens and the ensembles of jobs are not in it; the file can be read by its owner only. Look at it
    all the same before it goes to somebody else: addresses and names of machines are in it.

    What cannot be had is named inside, in problems.json; a node that does not run is no reason to fail.

    Examples:
      nunet debug
      nunet debug --file report.tar.gz --lines 500
    """
    import sys

    from dms.cli.session import Session
    from dms.types.errors import BadInput

    session = Session.of(ctx)
    target = file or Path(time.strftime("nunet-debug-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()))
    bundle = Bundle()
    _conceal_known(session)
    collect(bundle, session, context, lines)
    try:
        bundle.write(target)
    except OSError as exc:
        raise BadInput(f"cannot write {target}: {exc.strerror}") from None
    for name, problem in bundle.problems.items():
        print(f"nunet: without {name}: {problem}", file=sys.stderr)
    print(target)


class Bundle:
    """Files to be packed, and what could not be had."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.problems: dict[str, str] = {}

    def take(self, name: str, make: Callable[[], object]) -> None:
        """Put what ``make`` returns under ``name``: bytes as they are, all else as JSON. What it raises is a problem."""
        from dms.observe.redact import redact_text
        from dms.types.errors import DMSError

        try:
            made = make()
        except (DMSError, OSError, ValueError) as exc:
            self.problems[name] = redact_text(str(exc) or type(exc).__name__)
            return
        self.files[name] = made if isinstance(made, bytes) else as_json(made)

    def write(self, path: Path) -> None:
        """As a tar file that its owner may read.

        :raises OSError: it cannot be written.
        """
        self.files["problems.json"] = as_json(self.problems)
        now, top = int(time.time()), path.name.removesuffix(".gz").removesuffix(".tar")
        partial = path.with_name(f".{path.name}.partial")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
                for name, data in self.files.items():
                    member = tarfile.TarInfo(f"{top}/{name}")
                    member.size, member.mtime, member.mode = len(data), now, 0o600
                    archive.addfile(member, io.BytesIO(data))
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


class Asked:
    """Questions to a node; one that leaves the first of them unanswered is not waited for again and again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.is_silent = False

    def ask(self, behaviour: str) -> object:
        """What it answers, as JSON.

        :raises DMSError: nothing, or that it will not.
        """
        from dms.cli.errors import NoReply

        try:
            return self._client.call(behaviour, None, object, timeout_s=HASTY_S if self.is_silent else ASK_S)
        except NoReply:
            self.is_silent = True
            raise


def collect(bundle: Bundle, session: Session, context: str | None, lines: int) -> None:
    """Ask for everything."""
    from dms.types.errors import DMSError

    bundle.take("about.json", _about)
    bundle.take("settings.json", lambda: session.settings.as_dict())
    bundle.take("environment.json", _environment)
    bundle.take("health.json", lambda: json.loads(_get(session, "/api/v1/health")))
    bundle.take("metrics.txt", lambda: _scrubbed_text(_get(session, "/metrics")))
    if "health.json" in bundle.files:
        try:
            client = session.client(context)
            client.node  # noqa: B018 (asks for it)
        except DMSError as exc:
            bundle.problems["the node's answers"] = exc.message
        else:
            asked = Asked(client)
            for name, behaviour in QUESTIONS:
                bundle.take(f"{name}.json", lambda behaviour=behaviour: asked.ask(behaviour))  # type: ignore[misc]
            if not asked.is_silent:
                bundle.take("events.jsonl", lambda: _events(client))
                bundle.take("log.jsonl", lambda: _log_of_node(client, lines))
    if "log.jsonl" not in bundle.files:
        bundle.problems.pop("log.jsonl", None)
        bundle.take("log.jsonl", lambda: _log_of_file(session.settings.observability.logging.file, lines))


def scrub(value: Any, key: str = "") -> Any:  # JSON
    """A document without secrets, nothing cut."""
    from dms.observe.redact import HIDDEN, is_secret_key, redact_text

    if key and is_secret_key(key) and value not in (None, "", [], {}, False, True):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {redact_text(str(k)): scrub(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else redact_text(str(value))


def as_json(value: object) -> bytes:
    """A document as JSON for people, without secrets."""
    from dms.types import gojson

    plain = value if isinstance(value, dict | list | str) else gojson.to_builtins(value)
    return (json.dumps(scrub(plain), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _about() -> dict[str, object]:
    import platform
    import sys
    from importlib import metadata

    from dms import __version__

    packages = ("libp2p", "trio", "hypercorn", "starlette", "sqlalchemy", "wasmtime", "opentelemetry-proto")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "nunet": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": versions,
    }


def _environment() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}


def _get(session: Session, path: str) -> bytes:
    from http.client import HTTPConnection, HTTPException

    from dms.types.errors import Unavailable

    connection = HTTPConnection(session.rest_addr, session.rest_port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        data = response.read(16 << 20)
        if response.status != 200:
            raise Unavailable(f"{path} answers {response.status}")
        return data
    except (OSError, HTTPException) as exc:
        raise Unavailable(f"no node answers at {session.rest_addr}:{session.rest_port}: {exc}") from None
    finally:
        connection.close()


def _events(client: Client) -> bytes:
    from dms.cli.watching import node_events
    from dms.types import gojson

    return _lines(gojson.to_builtins(event) for event in node_events(client))


def _log_of_node(client: Client, lines: int) -> bytes:
    from dms.cli.watching import log_entries

    entries = [dict(entry.entry) for entry in log_entries(client)]
    return _lines(entries[-lines:] if lines else [])


def _log_of_file(path: Path, lines: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read(TAIL_BYTES).splitlines()
    if size > TAIL_BYTES:
        del tail[:1]  # the rest of a line
    made = []
    for line in tail[-lines:] if lines else []:
        try:
            made.append(json.loads(line))
        except ValueError:
            made.append({"unreadable": line.decode("utf-8", "replace")})
    return _lines(made)


def _lines(documents: Iterable[object]) -> bytes:
    return b"".join(
        json.dumps(scrub(each), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n" for each in documents
    )


def _scrubbed_text(data: bytes) -> bytes:
    from dms.observe.redact import redact_text

    return redact_text(data.decode("utf-8", "replace")).encode()


def _conceal_known(session: Session) -> None:
    """Have every secret that is known here hidden wherever it turns up."""
    from dms.config.keys import keys
    from dms.observe.redact import conceal, is_secret_key
    from dms.types.errors import DMSError

    for name, value in os.environ.items():
        if is_secret_key(name):
            conceal(value)
    try:
        settings = session.settings
    except DMSError:
        return
    for key in keys().values():
        if key.is_secret:
            conceal(str(settings.value(key.name)))
    profile = session.profile
    if profile is not None:
        conceal(profile.passphrase() or "")
