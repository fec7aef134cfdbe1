"""YAML as people like to read it: comments, short lists and maps on one line, long texts as blocks.

What is written reads back as exactly the same values, with this package's reader and with others: whatever could be taken
for a number, a truth value or a date stands in quotes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence

Path = tuple[str | int, ...]
Value = object
"""Text, bytes, numbers, truth values, None, and lists and maps of them."""

MAX_LINE_CHARS = 100
MAX_FLOW_CHARS = 72
"""A list or map on one line is at most so long."""
MAX_FLOW_ENTRIES = 4
"""Members of a map on one line; longer ones are easier to read below each other."""
STEP = "  "

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?: [A-Za-z0-9_./@+-]+)*")
_QUANTITY = re.compile(r"\d{1,15}(?:\.\d{1,9})?(?:[KMGT]i?B|B|[kMG]?Hz|ms|[smhd])")
_OTHERS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def write_yaml(value: Mapping[str, Value], comments: Mapping[Path, Sequence[str]] | None = None) -> str:
    """The text; ``comments`` are lines above the member with that path, those of ``()`` stand at the top.

    A line of a comment is wrapped where it is too long; control characters in it are replaced.
    """
    writer = _Writer(comments or {})
    lines = [*writer.comment((), ""), *writer.block(value, (), "")]
    return "\n".join(lines) + "\n"


def write_scalar(value: Value) -> str:
    """One value on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = repr(value)
        return text if "e" not in text or "." in text else text.replace("e", ".0e")  # older YAML wants the point
    if isinstance(value, bytes):
        return f'!!binary "{base64.b64encode(value).decode("ascii")}"'
    return _text(str(value))


class _Writer:
    def __init__(self, comments: Mapping[Path, Sequence[str]]) -> None:
        self._comments = comments
        self._above = {path[:end] for path in comments for end in range(len(path))}
        """What has a comment somewhere below, and so cannot be on one line."""

    def comment(self, path: Path, indent: str) -> Iterator[str]:
        for line in self._comments.get(path, ()):
            for part in _wrapped(line, MAX_LINE_CHARS - len(indent) - 2):
                yield f"{indent}# {part}".rstrip()

    def block(self, value: Value, path: Path, indent: str) -> Iterator[str]:
        """The lines of a map or list that is not empty."""
        if isinstance(value, Mapping):
            for key, member in value.items():
                yield from self.comment((*path, key), indent)
                yield from self._member(f"{indent}{_text(key)}:", member, (*path, key), indent)
            return
        assert isinstance(value, Sequence)
        for index, item in enumerate(value):
            here = (*path, index)
            yield from self.comment(here, indent)
            if not _is_nested(item) or self._flow(item, here):
                yield from self._member(f"{indent}-", item, here, indent)
                continue
            first = True
            for line in self.block(item, here, indent + STEP):
                if first and line.lstrip().startswith("#"):
                    yield indent + line[len(indent) + len(STEP) :]
                elif first:
                    yield f"{indent}- {line[len(indent) + len(STEP) :]}"
                    first = False
                else:
                    yield line

    def _member(self, head: str, value: Value, path: Path, indent: str) -> Iterator[str]:
        flow = self._flow(value, path)
        if flow:
            yield f"{head} {flow}"
        elif _is_nested(value):
            yield head
            yield from self.block(value, path, indent + STEP)
        elif isinstance(value, str) and _fits_block(value):
            body = value.rstrip("\n")
            keep = len(value) - len(body)
            yield f"{head} |{'-' if keep == 0 else '' if keep == 1 else '+'}"
            yield from (
                f"{indent}{STEP}{line}" if line else "" for line in value.split("\n")[: None if keep == 0 else -1]
            )
        else:
            yield f"{head} {write_scalar(value)}"

    def _flow(self, value: Value, path: Path) -> str:
        """The whole on one line, if that is short and nothing in it has a comment."""
        if path in self._above or not isinstance(value, list | tuple | dict):
            return ""
        if not value:
            return "{}" if isinstance(value, dict) else "[]"
        if len(path) < 2 or (isinstance(value, dict) and len(value) > MAX_FLOW_ENTRIES):
            return ""
        members = value.values() if isinstance(value, dict) else value
        if any(isinstance(m, list | tuple | dict | bytes) or (isinstance(m, str) and "\n" in m) for m in members):
            return ""
        if isinstance(value, dict):
            text = "{" + ", ".join(f"{_text(k)}: {write_scalar(m)}" for k, m in value.items()) + "}"
        else:
            text = "[" + ", ".join(write_scalar(m) for m in value) + "]"
        return text if len(text) <= MAX_FLOW_CHARS else ""


def _is_nested(value: Value) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _text(text: str) -> str:
    if (_PLAIN.fullmatch(text) and text.lower() not in _OTHERS) or _QUANTITY.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if quoted.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in quoted)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _fits_block(text: str) -> bool:
    """Whether a literal block holds it without loss."""
    body = text.rstrip("\n")
    lines = body.split("\n")
    return (
        "\n" in text
        and bool(body)
        and not lines[0].startswith((" ", "\t"))
        and all(line.replace("\t", " ").isprintable() and (not line or bool(line.strip())) for line in lines)
    )


def _wrapped(line: str, width: int) -> Iterator[str]:
    clean = "".join(c if c.isprintable() else " " for c in line)
    rest = clean.lstrip(" ")
    lead = clean[: len(clean) - len(rest)]
    while len(lead) + len(rest) > width:
        cut = rest.rfind(" ", 0, max(width - len(lead), 1))
        if cut <= 0:
            break
        yield lead + rest[:cut]
        rest = rest[cut + 1 :].lstrip()
        lead = lead or STEP
    yield lead + rest
