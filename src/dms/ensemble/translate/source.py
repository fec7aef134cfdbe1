"""A part of a foreign file: typed access, and a note for everything that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingABC

from dms.ensemble.problem import Problem, path_part, shorten
from dms.ensemble.tree import Entry, Mapping, Scalar, Sequence, Tree, is_null, kind_of

MAX_NOTES = 500

Reasons = MappingABC[str, tuple[str, str]]
"""By key: what it means that it is left out, and what to do instead."""


class Notes:
    """What of a file has no counterpart, in the order in which it was met."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.notes: list[Problem] = []

    def note(self, where: Tree | Entry | None, path: str, reason: str, hint: str = "", value: object = "") -> None:
        """Note something; more than :data:`MAX_NOTES` are not collected."""
        mark = where.mark if where is not None else None
        line, column = (mark.line, mark.column) if mark else (0, 0)
        if len(self.notes) < MAX_NOTES:
            self.notes.append(Problem(path, reason, hint, shorten(value), self.file, line, column))


class Part:
    """One map of the file; ``path`` tells where it is."""

    def __init__(self, tree: Tree | None, path: str, notes: Notes) -> None:
        self.tree = tree if isinstance(tree, Mapping) else Mapping({}, tree.mark if tree is not None else None)
        self.path = path
        self.notes = notes
        self._seen: set[str] = set()
        if tree is not None and not isinstance(tree, Mapping) and not is_null(tree):
            notes.note(tree, path, f"is {kind_of(tree)} where a map belongs, and is ignored")

    def __bool__(self) -> bool:
        return bool(self.tree.entries)

    def __contains__(self, name: str) -> bool:
        entry = self.tree.entries.get(name)
        return entry is not None and not is_null(entry.value)

    @property
    def names(self) -> tuple[str, ...]:
        """The keys, in the order of the file."""
        return tuple(self.tree.entries)

    def at(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{path_part(name)}" if self.path else path_part(name)

    def get(self, name: str) -> Tree | None:
        """A member, whatever it is; None when it is missing or null."""
        self._seen.add(name)
        entry = self.tree.entries.get(name)
        return None if entry is None or is_null(entry.value) else entry.value

    def text(self, name: str, default: str = "") -> str:
        """A single value as it was written."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, Scalar):
            return value.raw
        self.note(name, f"is {kind_of(value)} where a single value belongs, and is ignored")
        return default

    def flag(self, name: str) -> bool:
        """Whether it is true."""
        return self.text(name).strip().lower() in ("true", "yes", "on", "1")

    def count(self, name: str, default: int) -> int:
        """A whole number that is not negative."""
        text = self.text(name).strip()
        if not text:
            return default
        if text.isascii() and text.isdecimal() and len(text) <= 9:
            return int(text)
        self.note(name, "is not a whole number, and is ignored", value=text)
        return default

    def part(self, name: str) -> Part:
        """A map; empty when it is missing."""
        return Part(self.get(name), self.at(name), self.notes)

    def parts(self, name: str) -> Iterator[Part]:
        """The maps of a list, or the one map that stands in its place."""
        value = self.get(name)
        items = value.items if isinstance(value, Sequence) else () if value is None else (value,)
        for index, item in enumerate(items):
            yield Part(item, f"{self.at(name)}[{index}]", self.notes)

    def members(self) -> Iterator[tuple[str, Part]]:
        """All members that are maps, or empty."""
        for name in self.names:
            yield name, self.part(name)

    def texts(self, name: str) -> list[str]:
        """The single values of a list, or the one value that stands in its place."""
        value = self.get(name)
        items = value.items if isinstance(value, Sequence) else () if value is None else (value,)
        found = [item.raw for item in items if isinstance(item, Scalar)]
        if len(found) < len(items):
            self.note(name, "holds more than single values; these are ignored")
        return found

    def pairs(self, name: str) -> dict[str, str]:
        """A map of single values, or a list of ``KEY=VALUE``; what has no value has an empty one."""
        value = self.get(name)
        if isinstance(value, Sequence):
            split = [text.partition("=") for text in self.texts(name)]
            return {key.strip(): value for key, _, value in split}
        below = self.part(name)
        return {key: below.text(key) for key in below.names}

    def note(self, name: str, reason: str, hint: str = "", value: object = "") -> None:
        """Note something about a member."""
        entry = self.tree.entries.get(name)
        self.notes.note(entry if entry is not None else self.tree, self.at(name), reason, hint, value)

    def refuse(self, name: str, reason: str, hint: str = "") -> None:
        """Note that a member, if it is there and means something, is left out."""
        self._seen.add(name)
        entry = self.tree.entries.get(name)
        if entry is not None and not _says_nothing(entry.value):
            self.note(name, f"left out: {reason}", hint)

    def ignore(self, *names: str) -> None:
        """Members that mean nothing for a deployment."""
        self._seen.update(names)

    def rest(self, reasons: Reasons | None = None) -> None:
        """Note every member that nobody asked for."""
        known = reasons or {}
        for name in self.names:
            if name in self._seen or name.startswith("x-"):
                continue
            reason, hint = known.get(name, ("it has no counterpart in an ensemble", ""))
            self.refuse(name, reason, hint)


def _says_nothing(tree: Tree) -> bool:
    if isinstance(tree, Scalar):
        return tree.value is None or tree.value is False or tree.raw == ""
    return not (tree.items if isinstance(tree, Sequence) else tree.entries)
