"""What one reading of an ensemble carries along: where it comes from, what was found wrong, the templates."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from typing import Final

from dms.ensemble.placeholders import Placeholders, Unresolved
from dms.ensemble.problem import Problem, shorten
from dms.ensemble.tree import Entry, Mark, Scalar, Tree

MAX_PROBLEMS = 200
"""More are not collected; nobody reads them."""


class Invalid(Enum):
    """The result of reading a value that has a problem; the problem is noted already."""

    INVALID = "invalid"


INVALID: Final = Invalid.INVALID


class Reader:
    """One reading.

    ``is_wire``: the value is canonical JSON (bytes as base64, sizes in bytes, durations in nanoseconds, unknown keys
    dropped); otherwise a person wrote it (text, units, placeholders, unknown keys are pointed out).
    """

    def __init__(self, *, is_wire: bool, file: str = "", placeholders: Placeholders | None = None) -> None:
        self.is_wire = is_wire
        self.file = file
        self.placeholders = placeholders
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.resource_templates: dict[str, Entry] = {}
        self.volume_templates: dict[str, Entry] = {}
        self.root_keys: dict[str, str] = {}
        self.root_scripts: dict[str, str] = {}
        """Bodies in base64, by name."""
        self.marks: dict[str, Mark] = {}
        """Where each path that was read stands, for rules that look at the whole."""
        self._resolved: dict[int, tuple[Scalar, Scalar | Unresolved]] = {}

    def fail(
        self, where: Tree | Entry | None, path: str, reason: str, *, hint: str = "", value: object = ""
    ) -> Invalid:
        """Note a problem; it makes the ensemble invalid."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(self._problem(where, path, reason, hint, value))
        return INVALID

    def warn(self, where: Tree | Entry | None, path: str, reason: str, *, hint: str = "", value: object = "") -> None:
        """Note something that is accepted and yet worth a look. What arrives by wire is not commented on."""
        if not self.is_wire and len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(self._problem(where, path, reason, hint, value))

    def fail_at(self, path: str, reason: str, *, hint: str = "", value: object = "") -> None:
        """Note a problem of something that was read before, by its path."""
        if len(self.problems) < MAX_PROBLEMS:
            mark = self.marks.get(path)
            self.problems.append(self._made(mark, path, reason, hint, value))

    def resolve(self, tree: Tree, path: str) -> Tree | Invalid:
        """The value with its placeholders replaced; a list or map as it is."""
        if self.placeholders is None or not isinstance(tree, Scalar):
            return tree
        if not isinstance(tree.value, str) or "${" not in tree.value or tree.content is not None:
            return tree
        known = self._resolved.get(id(tree))
        if known is None:
            # the scalar is kept beside its result, so that its id stays its own
            known = self._resolved[id(tree)] = (tree, self._substitute(tree, self.placeholders))
        result = known[1]
        if isinstance(result, Unresolved):
            return self.fail(tree, path, result.reason, hint=result.hint, value=tree.raw)
        return result

    def is_wrong(self, path: str) -> bool:
        """Whether exactly this has a problem."""
        return any(p.path == path for p in self.problems)

    def is_broken(self, path: str) -> bool:
        """Whether something there has a problem of its own; then its absence is no second one."""
        return any(p.path == path or p.path.startswith((f"{path}.", f"{path}[")) for p in self.problems)

    def in_order(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Problems in the order of the document, each once."""
        return tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.line or 2**31, p.column)))

    def _substitute(self, scalar: Scalar, placeholders: Placeholders) -> Scalar | Unresolved:
        text = str(scalar.value)
        try:
            result = placeholders.resolve(text)
        except Unresolved as exc:
            return exc
        if isinstance(result, str):
            return Scalar(result, result, scalar.mark)
        try:
            content = result.decode()
        except UnicodeDecodeError:
            return Scalar(None, scalar.raw, scalar.mark, content=result, is_binary=True)
        return Scalar(content, content, scalar.mark, content=result)

    def _problem(self, where: Tree | Entry | None, path: str, reason: str, hint: str, value: object) -> Problem:
        return self._made(where.mark if where is not None else None, path, reason, hint, value)

    def _made(self, mark: Mark | None, path: str, reason: str, hint: str, value: object) -> Problem:
        line, column = (mark.line, mark.column) if mark else (0, 0)
        return Problem(path, reason, hint, shorten(value), self.file, line, column)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` was probably meant to be, or nothing."""
    by_folded = {_folded(k): k for k in known}
    close = difflib.get_close_matches(_folded(name[:64]), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or all if they are few."""
    names = list(known)
    near = nearest(name, names)
    if near:
        return f"did you mean `{near}`?"
    return f"known are {', '.join(names)}" if 0 < len(names) <= 12 else ""


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
