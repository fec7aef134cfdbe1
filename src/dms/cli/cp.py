"""``nunet cp``: files into and out of what runs, by its own ``tar`` (:mod:`dms.cli.packing`, :mod:`dms.cli.unpacking`)."""

from __future__ import annotations

import os
import posixpath
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID
from dms.types.errors import BadInput, DMSError, NotFound

if TYPE_CHECKING:
    from dms.cli.client import Client

PROGRESS_EVERY_S = 0.2
MAX_WORDS = 4096
"""Of what a command says about its failure."""
MAX_REST_BYTES = 1 << 20
"""Behind the end of an archive."""
NOT_THERE, NOT_RUN = 127, 126
"""Exit codes of engines and shells for a program that is not there, or is none."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path, here or in an allocation; ``-`` here is our input or output."""

    path: str
    allocation: str = ""

    @property
    def name(self) -> str:
        """The last part of it."""
        return posixpath.basename(posixpath.normpath(self.path))


def cp(
    ctx: typer.Context,
    identifier: DeploymentID,
    source: Annotated[str, typer.Argument(metavar="SRC", help="What: PATH here, - (our input), or ALLOCATION:PATH.")],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Where to: PATH here, - (our output), or ALLOCATION:PATH.")
    ],
    context: Context = None,
) -> None:
    """Copy files and directories into an allocation that runs, or out of it.

    As cp does: a target that is a directory gets the source into it, any other becomes it. Needs tar in the allocation (for -:
    cat and sh). Only who submitted the deployment may. Links that lead out of what is copied, and devices, are left out.

    Examples:
      nunet cp 3f2a ./model web:/data/
      nunet cp 3f2a web:/var/log/app.log .
      nunet cp 3f2a n1.db:/backup.sql - | gzip >backup.sql.gz
    """
    from dms.cli.session import Session

    one, other = read_place(source), read_place(target)
    if bool(one.allocation) == bool(other.allocation):
        raise BadInput(
            "one of both must be in an allocation, and the other one here", hint="write ALLOCATION:PATH for the former"
        )
    client = Session.of(ctx).client(context)
    if one.allocation:
        there = There(client, identifier, one.allocation)
        download(there, one, other)
    else:
        upload(There(client, identifier, other.allocation), one, other)


def read_place(text: str) -> Place:
    """``ALLOCATION:PATH``, or a path of this machine; a colon behind a slash belongs to the path.

    :raises BadInput: it is nothing.
    """
    allocation, colon, path = text.partition(":")
    if not colon or "/" in allocation:
        if not text:
            raise BadInput("there is nothing to copy")
        return Place(text)
    if not allocation or not path or "\0" in path:
        raise BadInput(f"{text!r} is no place in an allocation", hint="write ALLOCATION:PATH, such as web:/data")
    return Place(path, allocation)


class There:
    """Commands in one allocation."""

    def __init__(self, client: Client, identifier: str, allocation: str) -> None:
        self._client, self._id, self._allocation = client, identifier, allocation

    def run(
        self, *command: str, stdin: int | None = None, stdout: Callable[[bytes], object] = lambda _data: None
    ) -> tuple[int, str]:
        """Run one to its end; its exit code, and the end of what it said about it.

        :raises DMSError: it cannot be run, or was ended.
        """
        from dms.cli.conversation import Conversation

        talk = Conversation(self._client, self._id, self._allocation)
        said, heard = bytearray(), bytearray()

        def listen(data: bytes) -> None:
            heard.extend(data[: MAX_WORDS - len(heard)])
            stdout(data)

        talk.start(command, stdin=stdin is not None, tty=False, rows=24, columns=80)
        try:
            if stdin is not None:
                talk.give_input(stdin)
            code = talk.listen(listen, lambda data: said.extend(data[: MAX_WORDS - len(said)]))
        except BaseException:
            talk.stop()
            raise
        words = said if said or code not in (NOT_THERE, NOT_RUN) else heard
        return code, words.decode("utf-8", "replace").strip()

    def is_directory(self, path: str) -> bool:
        """Whether there is one; not, where nobody can say."""
        return self.run("test", "-d", path)[0] == 0

    def failed(self, code: int, words: str, program: str) -> DMSError:
        """The error for a command that went wrong."""
        from dms.cli.client import refused
        from dms.cli.output import clean

        if code in (NOT_THERE, NOT_RUN):
            return NotFound(
                f"there is no {program} in {self._allocation}",
                hint="copying needs it there; use an image that has it, or a volume",
            )
        why = clean(words.splitlines()[0])[:300] if words else f"{program} ended with exit code {code}"
        return refused(f"{self._allocation}: {why}")


def upload(there: There, source: Place, target: Place) -> None:
    """From here to there.

    :raises DMSError: it cannot be read here, or not be written there.
    """
    path = _absolute(target.path)
    if source.path == "-":
        code, words = there.run("sh", "-c", 'cat >"$0"', path, stdin=sys.stdin.fileno())
        if code:
            raise there.failed(code, words, "sh")
        return
    here = Path(source.path)
    if not here.exists():
        raise NotFound(f"{source.path} does not exist")
    parent, name = posixpath.split(posixpath.normpath(path))
    if there.is_directory(path):
        parent, name = path, here.resolve().name
    elif path.endswith("/"):
        raise NotFound(f"{path} is no directory in {target.allocation}", hint="make it with nunet exec … mkdir -p")
    if not name or name == "..":
        raise BadInput(f"{source.path} has no name of its own", hint="name the target, too")
    from dms.cli.packing import pack

    reading, writing = os.pipe()
    failures: list[BaseException] = []
    left_out: list[str] = []
    with _progress() as note:

        def write() -> None:
            try:
                with os.fdopen(writing, "wb") as stream:
                    left_out.extend(pack(here, name, stream, note))
            except BrokenPipeError:
                return
            except BaseException as error:  # noqa: BLE001  it is raised where it belongs, below
                failures.append(error)

        packing = threading.Thread(target=write, daemon=True)
        packing.start()
        try:
            code, words = there.run("tar", "-x", "-f", "-", "-C", parent or "/", stdin=reading)
        finally:
            os.close(reading)
        packing.join()
    if failures:
        raise failures[0]
    if code:
        raise there.failed(code, words, "tar")
    _tell_left_out(left_out)


def download(there: There, source: Place, target: Place) -> None:
    """From there to here.

    :raises DMSError: it cannot be read there, or not be written here.
    """
    path = _absolute(source.path)
    if target.path == "-":
        code, words = there.run("cat", path, stdout=lambda data: _write_all(sys.stdout.fileno(), data))
        if code:
            raise there.failed(code, words, "cat")
        return
    parent, name = posixpath.split(posixpath.normpath(path))
    if not name:
        raise BadInput("the root of an allocation is not copied as a whole", hint="name what is in it")
    here = Path(target.path)
    here = here / name if here.is_dir() else here
    if (target.path.endswith("/") and not Path(target.path).is_dir()) or not here.absolute().parent.is_dir():
        raise NotFound(f"{here.absolute().parent} is no directory")
    from dms.cli.unpacking import BadArchive, Unpacked, unpack

    reading, writing = os.pipe()
    failures: list[BaseException] = []
    done: list[Unpacked] = []
    with _progress() as note:

        def read() -> None:
            try:
                with os.fdopen(reading, "rb") as stream:
                    try:
                        done.append(unpack(stream, here.absolute(), note))
                    except BadArchive as error:  # what tar says about it at its end may be the reason
                        failures.append(error)
                    stream.read(MAX_REST_BYTES)
            except BaseException as error:  # noqa: BLE001  it is raised where it belongs, below
                failures.append(error)

        unpacking = threading.Thread(target=read, daemon=True)
        unpacking.start()
        try:
            code, words = there.run(
                "tar", "-c", "-f", "-", "-C", parent, name, stdout=lambda data: _write_all(writing, data)
            )
        except BrokenPipeError:
            code, words = 0, ""
        finally:
            os.close(writing)
        unpacking.join()
    if failures and not isinstance(failures[0], BadArchive):
        raise failures[0]
    if code:
        raise there.failed(code, words, "tar")
    if failures:
        raise failures[0]
    _tell_left_out(done[0].left_out)


def _absolute(path: str) -> str:
    """From the root of the allocation, whatever its working directory is: so no path is taken for an option."""
    return path if path.startswith("/") else f"/{path}"


def _tell_left_out(names: list[str]) -> None:
    from dms.cli.output import clean

    for name in names[:20]:
        typer.echo(f"left out: {clean(name)[:200]}", err=True)
    if len(names) > 20:
        typer.echo(f"left out: {len(names) - 20} more", err=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Tells how much has passed, to people only."""
    from dms.types.units import format_bytes

    is_shown, last_s = sys.stderr.isatty(), 0.0

    def note(count: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if is_shown and now_s - last_s >= PROGRESS_EVERY_S:
            last_s = now_s
            sys.stderr.write(f"\r\x1b[K{format_bytes(count)}")
            sys.stderr.flush()

    try:
        yield note
    finally:
        if is_shown and last_s:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
