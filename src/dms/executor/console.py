"""The console protocol: how the program in a microVM and we talk over its serial line.

Everything that the guest's kernel prints goes over the same line, and with Firecracker there is only one. So what the
agent in the guest says stands in *frames*, each a line of its own that begins with the byte 0x1E::

    0x1E r 1               the agent (protocol version 1) is there and reads commands
    0x1E o BASE64          output of the program: standard output
    0x1E e BASE64          … standard error
    0x1E x CODE [oom]      the program has ended; "oom": the guest's kernel killed it for memory
    0x1E f BASE64          it could not be started: why
    0x1E 1.ID BASE64       output of command ID: standard output
    0x1E 2.ID BASE64       … standard error
    0x1E d.ID CODE         command ID has ended

All other bytes are the console's. We say, in lines::

    exec ID BASE64         run the shell words in BASE64 inside
    term                   ask the program to stop (SIGTERM to its process group)

A guest can say whatever it wants here: what it says concerns nobody but itself, and its size is bounded.

Standard library only: :mod:`dms.executor.vm_runner` uses it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

START = b"\x1e"
MAX_FRAME_BYTES = 8192
MAX_COMMAND_BYTES = 3000
"""Of one line to the guest: its terminal holds no more than 4 KiB."""


class Frame:
    """What the agent said: a tag and a text."""

    __slots__ = ("tag", "text")

    def __init__(self, tag: str, text: str) -> None:
        self.tag, self.text = tag, text

    def __repr__(self) -> str:
        return f"Frame({self.tag!r}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self.tag, self.text) == (other.tag, other.text)

    def __hash__(self) -> int:
        return hash((self.tag, self.text))

    @property
    def data(self) -> bytes:
        """The bytes that the text stands for; none when it was garbled."""
        try:
            return base64.b64decode(self.text, validate=True)
        except (binascii.Error, ValueError):
            return b""

    @property
    def number(self) -> int | None:
        """The exit code that comes first in the text."""
        word = self.text.partition(" ")[0]
        return int(word) if word.isdecimal() and len(word) <= 3 else None


class ConsoleDecoder:
    """Takes apart what comes over the line."""

    def __init__(self) -> None:
        self._frame: bytearray | None = None

    def feed(self, data: bytes) -> list[Frame | bytes]:
        """Frames, and between them the bytes that belong to the console."""
        found: list[Frame | bytes] = []
        while data:
            if self._frame is None:
                noise, start, data = data.partition(START)
                if noise:
                    found.append(noise)
                if start:
                    self._frame = bytearray()
                continue
            part, end, rest = data.partition(b"\n")
            restart = part.find(START)
            if restart >= 0:  # the line was interrupted by another one
                found.append(bytes(self._frame + part[:restart]))
                self._frame, data = bytearray(), data[restart + 1 :]
                continue
            self._frame += part
            data = rest
            if len(self._frame) > MAX_FRAME_BYTES:
                found.append(bytes(self._frame) + end)
                self._frame = None
            elif end:
                found.append(_frame(bytes(self._frame)))
                self._frame = None
        return [one for one in found if one != b""]


def shell_words(words: Sequence[str]) -> str:
    """Words as a POSIX shell reads them back, whatever they hold."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def exec_line(number: int, argv: Sequence[str]) -> bytes:
    """The line that has a command run.

    :raises ValueError: it is too long.
    """
    words = base64.b64encode(f"set -- {shell_words(argv)}\n".encode("utf-8", "surrogateescape"))
    line = b"exec %d %s\n" % (number, words)
    if len(line) > MAX_COMMAND_BYTES:
        raise ValueError("the command is too long for the console of a microVM")
    return line


TERM_LINE = b"term\n"


def _frame(line: bytes) -> Frame | bytes:
    try:
        tag, _, text = line.rstrip(b"\r").decode("ascii").partition(" ")
    except UnicodeDecodeError:
        return line + b"\n"
    return Frame(tag, text)
