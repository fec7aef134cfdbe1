"""From the text of a file to a tree with places: YAML, and JSON as a part of it.

Safe for files from strangers: nothing but plain data is built, and size, depth, and what aliases multiply are bounded
before work is spent. It differs from PyYAML's loader on purpose: only ``true`` and ``false`` are truth values (so that
``country: NO`` stays Norway), dates and ``22:30`` stay text, and a key that is given twice is an error.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.problem import Problem, shorten
from dms.ensemble.tree import MAX_DEPTH, MAX_VALUES, Entry, Mapping, Mark, Scalar, Sequence, Tree, lift

MAX_DOCUMENT_BYTES = 4 * 2**20
"""Size of an ensemble file without what its placeholders bring in."""

MAX_DOCUMENTS = 1_000
"""In one file, where several are allowed."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # only its scanner and parser are used; both have the same
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,60}|[0-9]{1,60}(?:\.[0-9]{0,60})?)(?:[eE][-+]?[0-9]{1,4})?")
_OTHER_IN_YAML = re.compile("[\x85\u2028\u2029]")
"""Line breaks of YAML that mean nothing in JSON."""
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def parse_document(data: bytes, file: str) -> tuple[Tree, tuple[Problem, ...]]:
    """The tree of a file, and problems that do not hide the rest of it (keys given twice, tags).

    :raises InvalidEnsemble: there is no tree: too large, not UTF-8, not YAML, too deep, empty.
    """
    text = text_of(data, file)
    plain = _from_json(text) if _OTHER_IN_YAML.search(text) else None
    if plain is not None:
        return plain, ()
    builder = _Builder(file)
    try:
        events = yaml.parse(text, Loader=_Loader)
        tree = builder.document(events)
    except yaml.YAMLError as exc:
        plain = _from_json(text)
        if plain is None:
            raise _syntax_error(exc, text, file) from None
        return plain, ()
    return tree, tuple(builder.problems)


def parse_documents(data: bytes, file: str) -> tuple[tuple[Tree, ...], tuple[Problem, ...]]:
    """As :func:`parse_document`, for files that may hold several documents; empty ones are left out.

    :raises InvalidEnsemble: as there; also when there are more than :data:`MAX_DOCUMENTS`.
    """
    text = text_of(data, file)
    builder = _Builder(file)
    try:
        trees = builder.documents(yaml.parse(text, Loader=_Loader))
    except yaml.YAMLError as exc:
        plain = _from_json(text)
        if plain is None:
            raise _syntax_error(exc, text, file) from None
        return (plain,), ()
    return tuple(trees), tuple(builder.problems)


def text_of(data: bytes, file: str) -> str:
    """The text of a file.

    :raises InvalidEnsemble: too large, or not UTF-8.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _refused(file, f"the file has {len(data)} bytes; at most {MAX_DOCUMENT_BYTES} are read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        mark = Mark(data.count(b"\n", 0, exc.start) + 1, exc.start - data.rfind(b"\n", 0, exc.start))
        raise _refused(file, "not UTF-8 text", mark=mark) from None


@dataclass(slots=True)
class _Open:
    """A list or map that is being read."""

    mark: Mark
    anchor: str | None
    is_map: bool
    size: int = 1
    items: list[Tree] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    merged: list[Tree] = field(default_factory=list)
    key: tuple[str, Mark] | None = None
    is_merge: bool = False
    """Whether the key is a plain ``<<``."""
    bad_key: bool = False


class _Builder:
    """Builds the tree from the events of the parser, without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Tree, int] | None] = {}
        self.stack: list[_Open] = []
        self.values = 0

    def document(self, events: Iterator[Any]) -> Tree:
        root: Tree | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.refused("there is more than one document in the file", event)
                continue
            done = self.step(event)
            if done is not None:
                root = done
        if root is None or (isinstance(root, Scalar) and root.value is None):
            raise _refused(self.file, "the file is empty", hint='begin with version: "V1"')
        return root

    def documents(self, events: Iterator[Any]) -> list[Tree]:
        roots: list[Tree] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                continue
            done = self.step(event)
            if done is None or (isinstance(done, Scalar) and done.value is None):
                continue
            roots.append(done)
            if len(roots) > MAX_DOCUMENTS:
                raise self.refused(f"there are more than {MAX_DOCUMENTS} documents in the file", event)
        return roots

    def step(self, event: Any) -> Tree | None:
        """Take one event; return the root when it is complete."""
        if isinstance(event, yaml.ScalarEvent):
            return self.add(self.scalar(event), 1, event)
        if isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(str(event.anchor))
            if known is None:
                what = "contains itself" if event.anchor in self.anchors else "is not defined before"
                raise self.refused(f"the alias *{event.anchor} {what}", event)
            return self.add(known[0], known[1], event)
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self.stack) >= MAX_DEPTH:
                raise self.refused(f"nested deeper than {MAX_DEPTH} levels", event)
            self.check_tag(event)
            if event.anchor:
                self.anchors[event.anchor] = None
            self.stack.append(_Open(_mark(event), event.anchor, isinstance(event, yaml.MappingStartEvent)))
            return None
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self.stack.pop()
            tree = self.map(done) if done.is_map else Sequence(tuple(done.items), done.mark)
            if done.anchor:
                self.anchors[done.anchor] = (tree, done.size)
            return self.add(tree, done.size, event, counted=True, anchored=bool(done.anchor))
        return None

    def add(self, tree: Tree, size: int, event: Any, *, counted: bool = False, anchored: bool = False) -> Tree | None:
        """Put a finished value where it belongs."""
        self.values += 0 if counted else size
        if self.values > MAX_VALUES:
            raise self.refused(f"more than {MAX_VALUES} values", event, hint="aliases count as what they stand for")
        if not self.stack:
            return tree
        parent = self.stack[-1]
        parent.size += size
        if not parent.is_map:
            parent.items.append(tree)
        elif parent.key is None and not parent.bad_key:
            self.open_key(parent, tree, event)
        else:
            self.close_key(parent, tree, anchored=anchored or bool(getattr(event, "anchor", None)))
        return None

    def open_key(self, parent: _Open, tree: Tree, event: Any) -> None:
        if not isinstance(tree, Scalar):
            self.problem("a key must be text", event, hint="quote values that begin with { or [")
            parent.bad_key = True
            return
        parent.key = (tree.raw, tree.mark or _mark(event))
        parent.is_merge = tree.raw == "<<" and isinstance(event, yaml.ScalarEvent) and bool(event.implicit[0])

    def close_key(self, parent: _Open, tree: Tree, *, anchored: bool) -> None:
        key, parent.key, parent.bad_key = parent.key, None, False
        if key is None:
            return
        name, mark = key
        if parent.is_merge:
            parent.merged.append(tree)
            return
        if name in parent.entries:
            first = parent.entries[name].mark
            self.problems.append(
                Problem(
                    path=self.path(name),
                    reason="this key is given twice" + (f", first on line {first.line}" if first else ""),
                    hint="keep one of the two",
                    file=self.file,
                    line=mark.line,
                    column=mark.column,
                )
            )
            return
        parent.entries[name] = Entry(tree, mark, anchored)

    def map(self, done: _Open) -> Mapping:
        """A map with what its merge keys bring in; its own keys win, then the earlier ones."""
        entries = dict(done.entries)
        sources = [s for m in done.merged for s in (m.items if isinstance(m, Sequence) else (m,))]
        for source in sources:
            if not isinstance(source, Mapping):
                self.problems.append(
                    Problem(
                        path="<<",
                        reason="only a map, or a list of maps, can be merged",
                        file=self.file,
                        line=done.mark.line,
                        column=done.mark.column,
                    )
                )
                continue
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        return Mapping(entries, done.mark)

    def scalar(self, event: Any) -> Scalar:
        raw, mark = str(event.value), _mark(event)
        tag = event.tag.removeprefix(_TAG) if event.tag and event.tag != "!" else ""
        if tag == "binary":
            return self.binary(event, raw, mark)
        if tag not in ("", "str", "int", "float", "bool", "null"):
            self.check_tag(event)
        is_plain = bool(event.implicit[0]) if not tag else tag != "str"
        value = _resolve(raw) if is_plain else raw
        scalar = Scalar(value, raw, mark)
        if event.anchor:
            self.anchors[event.anchor] = (scalar, 1)
        return scalar

    def binary(self, event: Any, raw: str, mark: Mark) -> Scalar:
        """Bytes in base64, as ``${file:…}`` would bring them in."""
        try:
            content = base64.b64decode("".join(raw.split()), validate=True)
        except ValueError:
            self.problem("!!binary must be base64", event, hint="write text, or ${file:path}")
            return Scalar(None, raw, mark)
        try:
            text = content.decode()
            scalar = Scalar(text, text, mark, content=content)
        except UnicodeDecodeError:
            scalar = Scalar(None, raw, mark, content=content, is_binary=True)
        if event.anchor:
            self.anchors[event.anchor] = (scalar, 1)
        return scalar

    def check_tag(self, event: Any) -> None:
        if event.tag and event.tag != "!" and event.tag.removeprefix(_TAG) not in ("map", "seq"):
            self.problem(f'the tag "{shorten(event.tag)}" is not allowed here', event, hint="leave it out")

    def path(self, name: str) -> str:
        """The path of a member of the innermost map."""
        return ".".join(("V1", *(opened.key[0] for opened in self.stack if opened.key), name))

    def problem(self, reason: str, event: Any, *, hint: str = "") -> None:
        mark = _mark(event)
        self.problems.append(Problem("", reason, hint, file=self.file, line=mark.line, column=mark.column))

    def refused(self, reason: str, event: Any, *, hint: str = "") -> InvalidEnsemble:
        return _refused(self.file, reason, hint=hint, mark=_mark(event))


def _resolve(raw: str) -> str | int | float | bool | None:
    """The value of plain text, by the core schema of YAML 1.2."""
    if raw in _NULLS:
        return None
    if raw in _BOOLS:
        return _BOOLS[raw]
    if _INT.fullmatch(raw):
        return int(raw, 8 if raw.startswith("0o") else 16 if raw.startswith("0x") else 10)
    if _FLOAT.fullmatch(raw):
        number = float(raw)
        return number if math.isfinite(number) else raw
    return raw


def _from_json(text: str) -> Tree | None:
    """JSON that YAML does not take, such as escaped surrogates; places are not known then."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return lift(json.loads(text, object_pairs_hook=_no_duplicates))
    except (ValueError, RecursionError):
        return None


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key is given twice")
    return members


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _syntax_error(exc: yaml.YAMLError, text: str, file: str) -> InvalidEnsemble:
    place = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    reason = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc).splitlines()[0]
    if place is None:
        return _refused(file, f"not YAML: {reason}")
    lines = text.splitlines()
    line = lines[place.line] if place.line < len(lines) else ""
    hint = "check the indentation and the quotes around this place"
    if "\\t" in reason or "\t" in line[: place.column + 1]:
        hint = "indent with blanks, not with tabs"
    elif "${" in line or (0 < place.line <= len(lines) and "${" in lines[place.line - 1]):
        hint = "put values with ${…} in quotes"
    return _refused(file, f"not YAML: {reason}", hint=hint, mark=Mark(place.line + 1, place.column + 1))


def _refused(file: str, reason: str, *, hint: str = "", mark: Mark | None = None) -> InvalidEnsemble:
    line, column = (mark.line, mark.column) if mark else (0, 0)
    return InvalidEnsemble([Problem("", reason, hint, file=file, line=line, column=column)])
