"""A parsed document that still knows where each value stands, whatever it was written in."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DEPTH = 40
"""Nesting of lists and maps; the format itself needs less than ten."""
MAX_VALUES = 200_000
"""Values in one document, those behind aliases counted each time."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """One value: text, number, truth value or nothing; ``raw`` is how it was written.

    ``content`` holds the bytes of a file whose content is the whole value; ``value`` is then its text, or None with
    ``is_binary`` set when the file is not text.
    """

    value: str | int | float | bool | None
    raw: str
    mark: Mark | None = None
    content: bytes | None = None
    is_binary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A list."""

    items: tuple[Tree, ...]
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One member of a map; ``mark`` is the place of its key, ``anchored`` says that its value bears an anchor."""

    value: Tree
    mark: Mark | None = None
    anchored: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A map from text, in the order of the document."""

    entries: dict[str, Entry] = field(default_factory=dict)
    mark: Mark | None = None


Tree = Scalar | Sequence | Mapping


def kind_of(tree: Tree) -> str:
    """What a value is, in words for messages."""
    if isinstance(tree, Mapping):
        return "a map"
    if isinstance(tree, Sequence):
        return "a list"
    if tree.value is None and not tree.is_binary:
        return "empty"
    if isinstance(tree.value, bool):
        return "true or false"
    return "a number" if isinstance(tree.value, int | float) else "text"


def is_null(tree: Tree) -> bool:
    """Whether nothing is there."""
    return isinstance(tree, Scalar) and tree.value is None and not tree.is_binary


def is_zero(tree: Tree) -> bool:
    """Whether it is what Go writes for a value that was never set: empty, 0, false, or made of such only."""
    if isinstance(tree, Scalar):
        return not tree.value and not tree.is_binary
    if isinstance(tree, Sequence):
        return not tree.items
    return all(is_zero(e.value) for e in tree.entries.values())


def lift(value: object, depth: int = 0) -> Tree:
    """Parsed JSON as a tree without places.

    :raises ValueError: deeper than :data:`MAX_DEPTH`, or holds what JSON does not.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return Mapping({_clean(str(k)): Entry(lift(v, depth + 1)) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return Sequence(tuple(lift(v, depth + 1) for v in value))
    if isinstance(value, str):
        return Scalar(_clean(value), _clean(value))
    if value is None or isinstance(value, bool | int | float):
        raw = "true" if value is True else "false" if value is False else "" if value is None else str(value)
        return Scalar(value, raw)
    raise ValueError(f"{type(value).__name__} is not a JSON value")


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can escape and UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
