"""Reading what the kernel tells in small files below ``/sys`` and ``/proc``: whatever is missing or refused is empty."""

from __future__ import annotations

from pathlib import Path

MAX_BYTES = 1 << 20
"""No file that is read here is larger; a broken driver may offer an endless one."""


def text(path: Path) -> str:
    """The content without white space around it; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int:
    """A decimal number, or a hexadecimal one that begins with ``0x``; 0 where there is none."""
    content = text(path)
    try:
        return int(content, 16 if content[:2].lower() == "0x" else 10)
    except ValueError:
        return 0


def children(directory: Path, pattern: str = "*") -> tuple[Path, ...]:
    """What lies in ``directory``, in order of the names; nothing where it cannot be listed."""
    try:
        return tuple(sorted(directory.glob(pattern)))
    except OSError:
        return ()


def target(link: Path) -> str:
    """The last name of what a link points to, such as the driver of a device; empty where it is none."""
    try:
        return link.readlink().name
    except OSError:
        return ""
