"""``${…}`` in the text of an ensemble: environment variables and files (``spec/ensemble.md`` 4).

==========================  =====================================================================
``${NAME}`` ``${env:NAME}``  an environment variable; an empty one counts as missing
``${file:path}``            the content of a file beside the ensemble, or below
``${X:-default}``           what to take when X is missing
``$${``                     the two characters ``${`` themselves
==========================  =====================================================================

Inner placeholders are resolved first (``${file:${DIR}/run.sh}``), and so are those in the value of a variable, down to
:data:`MAX_NESTING`. The content of a file is taken as it is: a script has ``${…}`` of its own. Files outside the
directory of the ensemble are never read, also not through links.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

MAX_NESTING = 16
"""Placeholders in placeholders, and in the values of variables."""
MAX_PLACEHOLDERS = 20_000
"""Placeholders in one ensemble, those in the values of variables counted each time."""
MAX_FILE_BYTES = 4 * 2**20
"""One file that is brought in."""
MAX_RESULT_CHARS = 8 * 2**20
"""One value after substitution; variables that name each other could multiply otherwise."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOURCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):(?!-)(.*)", re.DOTALL)
_WHOLE_FILE = re.compile(r"\$\{\s*file:")


class Unresolved(Exception):  # a result that the reader turns into a problem with its place
    """A placeholder that has no value."""

    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason = reason
        self.hint = hint
        super().__init__(reason)


class _Missing(Unresolved):
    """There is no such variable or file; a default takes its place."""


class Placeholders:
    """Resolves the placeholders of one ensemble; ``base`` is its directory, ``env`` the environment of the user."""

    def __init__(self, base: Path, env: Mapping[str, str]) -> None:
        self._base = base
        self._env = env
        self._files: dict[str, bytes] = {}
        self._evaluated = 0
        self.ignored_modifiers: list[str] = []
        """Modifiers that were met; they have no effect."""

    def resolve(self, text: str) -> str | bytes:
        """The text with its placeholders replaced; the bytes of a file if the text is just one ``${file:…}``.

        :raises Unresolved: a placeholder has no value, or may not have one.
        """
        if _WHOLE_FILE.match(text):
            inner, end = _body(text, 2)
            if end == len(text):
                return self._evaluate(inner, 0)
        return self._expand(text, 0)

    def _expand(self, text: str, depth: int) -> str:
        """Replace every placeholder of ``text``, and ``$${`` by ``${``."""
        if depth > MAX_NESTING:
            raise Unresolved("failed to resolve expression: placeholders lead to each other without end")
        parts: list[str] = []
        position = length = 0
        while True:
            start = text.find("${", position)
            if start < 0:
                break
            if start > 0 and text[start - 1] == "$" and start - 1 >= position:
                parts.append(text[position : start - 1] + "${")
                position = start + 2
                continue
            parts.append(text[position:start])
            body, position = _body(text, start + 2)
            value = self._evaluate(body, depth)
            parts.append(value if isinstance(value, str) else _as_text(value, body))
            length += len(parts[-1])
            if length > MAX_RESULT_CHARS:
                raise Unresolved(
                    f"failed to resolve expression: the result is longer than {MAX_RESULT_CHARS} characters"
                )
        return "".join((*parts, text[position:]))

    def _evaluate(self, body: str, depth: int) -> str | bytes:
        """The value of what stands between the braces: text, or the bytes of a file."""
        self._evaluated += 1
        if self._evaluated > MAX_PLACEHOLDERS:
            raise Unresolved(f"failed to resolve expression: more than {MAX_PLACEHOLDERS} placeholders")
        expression, default = _split_default(body)
        try:
            return self._source(self._expand(expression, depth + 1), depth)
        except _Missing:
            if default is None:
                raise
        return self._expand(default, depth + 1)

    def _source(self, expression: str, depth: int) -> str | bytes:
        expression, *modifiers = (part.strip() for part in expression.split("|"))
        self.ignored_modifiers.extend(modifiers)
        match = _SOURCE.fullmatch(expression)
        source, name = (match[1], match[2].strip()) if match else ("env", expression)
        if source == "file":
            return self._file(name)
        if source != "env":
            raise Unresolved(f"unknown source: '{source}'", "the sources are env and file")
        if not _NAME.fullmatch(name):
            raise Unresolved(
                f'failed to resolve expression "${{{expression}}}": not the name of a variable',
                "write $${ for the characters ${ themselves",
            )
        value = self._env.get(name, "")
        if not value:
            raise _Missing(
                f'failed to resolve expression "${{{expression}}}": the environment variable {name} is not set',
                f"set it, or give a default: ${{{name}:-value}}",
            )
        return self._expand(value, depth + 1) if "${" in value else value

    def _file(self, name: str) -> bytes:
        if name in self._files:
            return self._files[name]
        what = f'failed to resolve expression "${{file:{name}}}"'
        if not name or "\0" in name:
            raise Unresolved(f"{what}: no file is named", "write ${file:path}")
        try:
            base = self._base.resolve(strict=True)
            path = (base / name).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            raise _Missing(
                f"{what}: there is no such file in {self._base}", "paths begin at the ensemble file"
            ) from None
        except (OSError, RuntimeError) as exc:
            raise Unresolved(f"{what}: {exc}") from None
        if not path.is_relative_to(base):
            raise Unresolved(
                f"{what}: the file lies outside the directory of the ensemble", "copy it beside the ensemble file"
            )
        content = self._files[name] = _read(path, what)
        return content


def _read(path: Path, what: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise Unresolved(f"{what}: {exc.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unresolved(f"{what}: not a regular file")
    with os.fdopen(handle, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise Unresolved(f"{what}: the file has more than {MAX_FILE_BYTES} bytes")
    return content


def _as_text(content: bytes, body: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unresolved(
            f'failed to resolve expression "${{{body}}}": the file is not UTF-8 text',
            "files that are not text can only be the whole value of module, files or scripts",
        ) from None


def _body(text: str, start: int) -> tuple[str, int]:
    """What stands between ``${`` (which ends at ``start``) and its ``}``, and where it goes on behind."""
    depth, position = 1, start
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
            position += 2
            continue
        if text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start:position], position + 1
        position += 1
    raise Unresolved(
        "failed to resolve expression: a ${ is not closed by }", "write $${ for the characters ${ themselves"
    )


def _split_default(body: str) -> tuple[str, str | None]:
    """An expression and its default: parted at the first ``:-`` outside inner placeholders."""
    depth = position = 0
    while position < len(body):
        if body.startswith("${", position):
            depth += 1
            position += 2
            continue
        if body[position] == "}" and depth:
            depth -= 1
        elif not depth and body.startswith(":-", position):
            return body[:position], body[position + 2 :]
        position += 1
    return body, None
