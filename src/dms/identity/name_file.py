"""Small private JSON files that map names to values, changed one name at a time by commands that may run at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dms.identity.errors import BadNameFile
from dms.identity.files import make_private_directory, write_private

MAX_FILE_BYTES: Final = 2**20
_Value = TypeVar("_Value", int, str)


def read_names(path: Path, kind: type[_Value]) -> dict[str, _Value]:
    """What the file maps; nothing when there is no file.

    :raises BadNameFile: it cannot be read, or is not such a map.
    """
    return _parse(_read(path), kind, path)


def write_name(path: Path, name: str, value: _Value, kind: type[_Value], *, keep_as: str) -> None:
    """Add or change one name, durably. The file as it was is kept beside it with ``keep_as`` added to its name.

    :raises BadNameFile: the present file cannot be used, and is left as it is.
    """
    make_private_directory(path.parent)
    with _changing(path, kind, keep_as) as names:
        names[name] = value


def remove_name(path: Path, name: str, kind: type[_Value], *, keep_as: str) -> None:
    """Remove one name, durably, if it is there; the file as it was is kept as :func:`write_name` does.

    :raises BadNameFile: the present file cannot be used, and is left as it is.
    """
    if name in read_names(path, kind):
        with _changing(path, kind, keep_as) as names:
            names.pop(name, None)


@contextlib.contextmanager
def _changing(path: Path, kind: type[_Value], keep_as: str) -> Iterator[dict[str, _Value]]:
    with _locked(path.parent):
        before = _read(path)
        names = _parse(before, kind, path)
        yield names
        if before is not None:
            write_private(path.with_name(f"{path.name}{keep_as}"), before)
        write_private(path, msgspec.json.format(msgspec.json.encode(names), indent=2))


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BadNameFile(f"cannot read {path}: {exc.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadNameFile(f"cannot use {path}: larger than {MAX_FILE_BYTES} bytes")
    return data


def _parse(data: bytes | None, kind: type[_Value], path: Path) -> dict[str, _Value]:
    if data is None:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, kind])  # type: ignore[valid-type] # the type as a value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadNameFile(f"cannot use {path}: {exc}") from None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
