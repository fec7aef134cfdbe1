"""The configuration file: where it is looked for, how it is read, how one key is changed.

``dms_config.json`` is JSON; ``//`` and ``/* */`` comments are accepted, and never written, and so is a comma after the last
member. The first file found is the only one; it needs to hold only what differs from the defaults.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dms.config.errors import ConfigUnreadable

FILE_NAME = "dms_config.json"
MAX_FILE_BYTES = 1 << 20
"""A configuration file larger than this is refused: it is something else."""

MAX_DEPTH = 16

_TEXT = r'"(?:\\.|[^"\\])*"'
_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[}}\]])", re.DOTALL)
_PIECE = re.compile(rf"{_TEXT}|[{{}}\[\]:\n]", re.DOTALL)


def search_path(env: Mapping[str, str]) -> Iterator[Path]:
    """Where the file is looked for: here, ``~/.nunet``, the user's configuration directory, ``/etc/nunet``."""
    home = home_of(env)
    yield Path.cwd() / FILE_NAME
    yield home / ".nunet" / FILE_NAME
    yield Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "nunet" / FILE_NAME
    yield Path("/etc/nunet") / FILE_NAME


def find_file(env: Mapping[str, str]) -> Path | None:
    """The first file of :func:`search_path` that exists."""
    return next((path for path in search_path(env) if path.is_file()), None)


def file_to_write(env: Mapping[str, str]) -> Path:
    """The file that a change belongs in: the one in use, or a new one in the user's own directory.

    Never silently the current directory, where the next command may not find it again.
    """
    return find_file(env) or home_of(env) / ".nunet" / FILE_NAME


def home_of(env: Mapping[str, str]) -> Path:
    """The user's home directory."""
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


def read_document(path: Path) -> dict[str, Any]:  # JSON
    """The object in ``path``, comments ignored.

    :raises ConfigUnreadable: not there, not readable, or not a JSON object; the message says where.
    """
    return parse(read_text(path), path)


def read_text(path: Path) -> str:
    """What the file holds, with its comments.

    :raises ConfigUnreadable: not there, not readable, too large, or not text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigUnreadable(f"no configuration file at {path}") from None
    except OSError as exc:
        raise ConfigUnreadable(f"cannot read configuration file {path}: {exc.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigUnreadable(f"configuration file {path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigUnreadable(f"configuration file {path} is not UTF-8 text") from None


def write_document(
    path: Path,
    document: Mapping[str, object],
    *,
    keep_copy: bool = False,
    now_s: int | None = None,
    is_private: bool = False,
) -> Path | None:
    """Replace the file through a temporary one and a rename, so that it is whole at any moment.

    Answers with the copy, ``<name>.bk.<seconds since 1970>``, that was kept of a file whose comments would be lost, or where
    ``keep_copy`` asks for it. ``is_private``: nobody else may read it.
    """
    text = json.dumps(document, indent=4, ensure_ascii=False)
    return write_text(path, f"{text}\n", keep_copy=keep_copy, now_s=now_s, is_private=is_private)


def write_text(
    path: Path, text: str, *, keep_copy: bool = False, now_s: int | None = None, is_private: bool = False
) -> Path | None:
    """As :func:`write_document`, with what the file shall hold as text."""
    path = path.resolve()
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    mode, kept = 0o644, None
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode & 0o777
        old = path.read_text("utf-8", "replace")
        if keep_copy or without_comments(old) != old:
            kept = _unused(path, int(time.time()) if now_s is None else now_s)
            shutil.copy2(path, kept)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".tmp.json", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode & 0o700 if is_private else mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return kept


def _unused(path: Path, now_s: int) -> Path:
    """A name for a copy that overwrites no other."""
    while (kept := path.with_name(f"{path.name}.bk.{now_s}")).exists():
        now_s += 1
    return kept


def flatten(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Nested objects as dotted lower-case keys; ``null`` means not set.

    :raises ConfigUnreadable: nested too deep, or a key twice.
    """
    flat: dict[str, Any] = {}
    for key, value in _leaves(document, "", 0, path):
        if key in flat:
            raise ConfigUnreadable(f"{path}: key {key} is there twice", hint="keep one of them")
        flat[key] = value
    return flat


def without_comments(text: str) -> str:
    """``text`` with comments, and commas after which nothing follows, blanked out; lines and columns stay where they were."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return token if token.startswith('"') else re.sub(r"[^\n]", " ", token)

    return _LAST_COMMA.sub(blank, _COMMENT.sub(blank, text))


def key_lines(text: str) -> dict[str, int]:
    """The line, from 1, on which each dotted key stands; what is not JSON gives what can be found."""
    lines: dict[str, int] = {}
    line, name, key = 1, "", ""
    inside: list[str | None] = []  # the beginning of the keys in each object; None is a list
    for match in _PIECE.finditer(without_comments(text)):
        piece = match[0]
        if piece == "\n":
            line += 1
        elif piece.startswith('"'):
            name = _unquoted(piece)
        elif piece == ":" and inside and inside[-1] is not None:
            key = inside[-1] + name.lower()
            lines.setdefault(key, line)
        elif piece in "{[":
            is_known = piece == "{" and (not inside or inside[-1] is not None)
            inside.append((f"{key}." if inside else "") if is_known else None)
        elif piece in "}]" and inside:
            inside.pop()
    return lines


def parse(text: str, path: Path) -> dict[str, Any]:  # JSON
    """The object that ``text``, which was read from ``path``, stands for.

    :raises ConfigUnreadable: it stands for none.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(without_comments(text), object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as exc:
        raise ConfigUnreadable(
            f"configuration file {path} is not JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}",
            hint="`nunet config edit` opens it",
        ) from None
    except ValueError as exc:
        raise ConfigUnreadable(f"configuration file {path}: {exc}", hint="keep one of them") from None
    except RecursionError:
        raise ConfigUnreadable(f"configuration file {path} is nested too deep") from None
    if not isinstance(value, dict):
        raise ConfigUnreadable(f"configuration file {path} does not hold a JSON object", hint="begin it with {")
    return value


def _unquoted(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return ""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f'key "{key}" is there twice')
        members[key] = value
    return members


def _leaves(node: Mapping[str, Any], prefix: str, depth: int, path: Path) -> Iterator[tuple[str, Any]]:
    if depth > MAX_DEPTH:
        raise ConfigUnreadable(f"configuration file {path} is nested deeper than {MAX_DEPTH} levels")
    for name, value in node.items():
        key = prefix + name.lower()
        if isinstance(value, dict):
            yield from _leaves(value, key + ".", depth + 1, path)
        elif value is not None:
            yield key, value
