"""``nunet logs``: what the allocations of a deployment wrote (``spec/orchestration.md`` 6.6)."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID
from dms.cli.terminal import Harmless

if TYPE_CHECKING:
    from dms.cli.following import Deployment

TAIL_WINDOW_BYTES = 1024 * 1024
"""Of the end of a log, where its last lines are looked for at first."""

Write = Callable[[bytes], object]


class Stream(StrEnum):
    """Which output."""

    STDOUT = "stdout"
    STDERR = "stderr"


def logs(
    ctx: typer.Context,
    identifier: DeploymentID,
    allocation: Annotated[
        str | None, typer.Argument(help="One allocation: its name or NODE.NAME; without it, all of them.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the deployment has ended.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="What was written to the standard error instead.")] = False,
    stream: Annotated[
        Stream, typer.Option("--stream", help="Which output; --stderr is short for --stream stderr.")
    ] = Stream.STDOUT,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, metavar="N", help="Only the last N lines of each.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only what is newer, roughly: 10m, 2h, or a time.")
    ] = None,
    version: Annotated[
        int,
        typer.Option(
            "--version", min=0, metavar="N", help="What an update took away, of that version (nunet versions ID)."
        ),
    ] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Let control characters reach the terminal.")] = False,
    context: Context = None,
) -> None:
    """Print what allocations wrote; with more than one, each line begins with the name of its allocation.

    Of an endless output a provider keeps the beginning and the end; a line tells where something was left out. On a
    terminal all control characters but line breaks and colours are shown as symbols; files and pipes get every byte.

    Examples:
      nunet logs 3f2a
      nunet logs 3f2a count --follow
      nunet logs 3f2a text.count --stderr --tail 20
      nunet logs 3f2a count --since 10m
      nunet logs 3f2a --version 4 --stderr
    """
    from dms.cli.following import Deployment
    from dms.cli.session import Session
    from dms.cli.times import parse_since_ns

    deployment = Deployment(Session.of(ctx).client(context), identifier)
    names = [allocation] if allocation else deployment.allocations_of(version)
    since_ms = parse_since_ns(since, time.time_ns()) // 1_000_000 if since else 0
    start = 0 if tail is None else -TAIL_WINDOW_BYTES
    which = "stderr" if stderr else stream.value
    reader = LogReader(deployment, names, which, start=start, since_ms=since_ms, version=version)
    try:
        print_logs(reader, follow=follow, tail=tail, write=_to_stdout if raw else None)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class LogReader:
    """Reads one stream of several allocations, piece by piece, side by side; below 0, ``start`` counts from the end."""

    def __init__(
        self,
        deployment: Deployment,
        names: Iterable[str],
        stream: str,
        *,
        start: int = 0,
        since_ms: int = 0,
        version: int = 0,
    ) -> None:
        self._version = version
        self.deployment = deployment
        self.offsets = dict.fromkeys(names, start)
        self.stream = stream
        self.errors: dict[str, str] = {}
        self._since_ms = since_ms
        self._begun: dict[str, int] = {}
        self._open = list(self.offsets)

    def rewind(self, name: str) -> bool:
        """Read that one again from its beginning; it was none if the log began where it was begun."""
        if not self._begun.get(name, 0) or self._since_ms:
            return False
        self.offsets[name] = 0
        del self._begun[name]
        if name not in self._open:
            self._open.append(name)
        return True

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come from any of them."""
        return not self._open

    def read(self, take: Callable[[str, bytes], object]) -> bool:
        """Hand what is new of each to ``take``, at most one piece each; whether there was anything."""
        from dms.executor.logs import LOST
        from dms.types.errors import NotFound

        found = False
        for name in tuple(self._open):
            try:
                since_ms = 0 if name in self._begun else self._since_ms
                piece = self.deployment.log_piece(
                    name, self.stream, self.offsets[name], since_ms=since_ms, version=self._version
                )
            except NotFound as exc:
                if len(self.offsets) == 1:
                    raise
                self.errors[name] = exc.message
                self._open.remove(name)
                continue
            if piece.offset > self.offsets[name] and name in self._begun:
                take(name, LOST)
            self._begun.setdefault(name, piece.offset)
            if piece.data:
                take(name, piece.data)
                found = True
            self.offsets[name] = max(piece.next_offset, self.offsets[name])
            if piece.eof:
                self._open.remove(name)
        return found


def print_logs(reader: LogReader, *, follow: bool = False, tail: int | None = None, write: Write | None = None) -> None:
    """Print all there is, then, with ``follow``, what comes, until the deployment has ended."""
    if write is None and sys.stdout.isatty():
        with closing(_Screen()) as screen:
            print_logs(reader, follow=follow, tail=tail, write=screen)
        return
    out = _Lines(write or _to_stdout, names=list(reader.offsets), tail=tail)
    while reader.read(out.take):
        continue
    for name in out.short_of_lines():
        if reader.rewind(name):
            out.forget(name)
    while reader.read(out.take):
        continue
    out.end_of_tail()
    after = 0
    while follow and not reader.is_over:
        progress = reader.deployment.progress(after=after, wait_ms=_poll_ms())
        after = max((event.seq for event in progress.events), default=after)
        got_any = reader.read(out.take)
        if progress.is_final and not progress.events and not got_any:
            break
    out.close()
    for name, error in reader.errors.items():
        print(f"{name}: {error}", file=sys.stderr)


class _Lines:
    """Writes bytes as they come, or, of several allocations, whole lines with the name in front."""

    def __init__(self, write: Write, names: list[str], tail: int | None) -> None:
        self._write = write
        self._width = max((len(name) for name in names), default=0)
        self._is_prefixed = len(names) > 1
        self._rest = dict.fromkeys(names, b"")
        self._wanted = tail or 0
        self._seen = dict.fromkeys(names, 0)
        self._tail: dict[str, deque[bytes]] | None = (
            None if tail is None else {name: deque(maxlen=tail) for name in names}
        )

    def take(self, name: str, data: bytes) -> None:
        """Bytes of one allocation."""
        if not self._is_prefixed and self._tail is None:
            self._write(data)
            return
        *lines, self._rest[name] = (self._rest[name] + data).split(b"\n")
        for line in lines:
            self._put(name, line + b"\n")

    def short_of_lines(self) -> list[str]:
        """Of which there may be more lines before the first one that was taken, which may lack its beginning."""
        return [] if self._tail is None else [name for name, count in self._seen.items() if count <= self._wanted]

    def forget(self, name: str) -> None:
        """It is told again."""
        self._seen[name], self._rest[name] = 0, b""
        if self._tail is not None:
            self._tail[name].clear()

    def end_of_tail(self) -> None:
        """All that was there has been read: write the last lines of it, and from now on everything."""
        held, self._tail = self._tail, None
        for name, lines in (held or {}).items():
            for line in lines:
                self._put(name, line)

    def close(self) -> None:
        """Write lines that were not ended."""
        for name, rest in self._rest.items():
            if rest:
                self._put(name, rest + (b"\n" if self._is_prefixed else b""))
                self._rest[name] = b""

    def _put(self, name: str, line: bytes) -> None:
        if self._tail is not None:
            self._seen[name] += 1
            self._tail[name].append(line)
            return
        self._write(f"{name:<{self._width}} | ".encode() + line if self._is_prefixed else line)


class _Screen:
    """Standard output where that is a terminal, which a program's output could steer."""

    def __init__(self) -> None:
        self._harmless = Harmless()

    def __call__(self, data: bytes) -> None:
        self._show(self._harmless.feed(data))

    def close(self) -> None:
        """What was left, and the end of colours."""
        self._show(self._harmless.end())

    @staticmethod
    def _show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _to_stdout(data: bytes) -> None:
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
        return
    buffer.write(data)
    buffer.flush()


def _poll_ms() -> int:
    from dms.cli.following import LOG_POLL_MS

    return LOG_POLL_MS
