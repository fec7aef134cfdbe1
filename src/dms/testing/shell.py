"""A page of the manual as a person follows it: its commands in a real shell, and what the page says that they print.

The shell is bash, so that variables, files and substitutions are the real ones. ``nunet`` alone is a function that hands
its arguments back to this process, which spares the start of a process for each of many commands.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dms.testing.commandline import Done

ELLIPSIS = "…"
_FENCE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NUNET = r"""
nunet() {
    printf '%s\0' "$PWD" "$@" > "$TALK/in"
    read -r code < "$TALK/code"
    cat "$TALK/out"; cat "$TALK/err" >&2
    return "$code"
}
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a page, and the lines that it is said to print; none says nothing about them."""

    command: str
    output: tuple[str, ...]

    def is_printed_by(self, text: str) -> bool:
        """Whether ``text`` is that output; ``…`` stands for anything within a line, alone on a line for any lines."""
        pattern = "".join(
            r"(?:.*\n)*" if line == ELLIPSIS else re.escape(line).replace(ELLIPSIS, ".*") + r"\n"
            for line in self.output
        )
        return re.fullmatch(pattern, text) is not None


def steps_of(page: Path) -> list[Step]:
    """All commands of a page, in order."""
    steps: list[Step] = []
    for block in _FENCE.findall(page.read_text()):
        for part in re.split(r"(?m)^\$ ", block)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            steps.append(Step(command, tuple(output)))
    return steps


class Shell:
    """Runs commands one after another; directories and variables stay."""

    def __init__(self, bash: subprocess.Popen[bytes], talk: Path, nunet: Callable[[Path, list[str]], Done]) -> None:
        self._bash, self._talk, self._nunet = bash, talk, nunet

    def run(self, command: str) -> Done:
        """Run one command to its end."""
        talk = self._talk
        self.say(f"{{ {command}\n}} > {talk}/shown 2> {talk}/told; printf '%s\\0' '' $? > {talk}/in\n")
        while True:
            place, *words = (talk / "in").read_bytes().decode().removesuffix("\0").split("\0")
            if not place:
                return Done(int(words[0]), (talk / "shown").read_text(), (talk / "told").read_text())
            done = self._nunet(Path(place), words)
            (talk / "out").write_text(done.out)
            (talk / "err").write_text(done.err)
            (talk / "code").write_text(f"{done.code}\n")

    def say(self, text: str) -> None:
        """Give the shell a text to read."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(text.encode())
        self._bash.stdin.flush()


@contextmanager
def shell(directory: Path, nunet: Callable[[Path, list[str]], Done]) -> Iterator[Shell]:
    """A shell in ``directory``; ``nunet`` runs a command line of that name in the place where it is called."""
    talk = directory / ".talk"
    talk.mkdir()
    for name in ("in", "code"):
        os.mkfifo(talk / name)
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=directory,
        env=os.environ | {"TALK": str(talk)},
        stdin=subprocess.PIPE,
    ) as bash:
        opened = Shell(bash, talk, nunet)
        opened.say(_NUNET)
        try:
            yield opened
        finally:
            bash.kill()
