"""Changes to a configuration file: one key, or the flat keys of release 0.5 to where they belong now."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dms.config.errors import ConfigUnwritable
from dms.config.file import write_document
from dms.config.keys import known, value_from_text
from dms.config.load import Found, InFile, holds_secret, nested, read_file, validated
from dms.config.origin import Origin, Source

Clock = Callable[[], float]


def set_key(path: Path, key: str, value_text: str, *, now: Clock = time.time) -> Path | None:
    """Change one key of the file at ``path`` (made when missing) to what ``value_text`` stands for.

    Only keys that were set are written. Answers with the copy kept of a file that held what is not written again.

    :raises SettingNotFound: no such key.
    :raises ConfigError: the value does not fit, or the file is not valid as it stands, or cannot be written.
    """
    name = known(key).name
    in_file = read_file(path) if path.exists() else InFile({})
    found = {**in_file.found, name: Found(value_from_text(name, value_text), Origin())}
    return _write(path, found, keep_copy=bool(in_file.flat), now=now)


def unset_key(path: Path, key: str, *, now: Clock = time.time) -> Path | None:
    """Take one key out of the file at ``path``, so that its default holds again; one that is not there is fine.

    :raises ConfigError: as :func:`set_key`.
    """
    name = known(key).name
    in_file = read_file(path) if path.exists() else InFile({})
    found = {key: each for key, each in in_file.found.items() if key != name}
    if len(found) == len(in_file.found):
        return None
    return _write(path, found, keep_copy=bool(in_file.flat), now=now)


def migrate_file(path: Path, *, now: Clock = time.time) -> Path | None:
    """Write flat keys of release 0.5 where they belong now, where nothing stands yet. Answers with the copy that is kept
    of the file as it was; ``None``: it held no such keys.

    :raises ConfigError: the file cannot be read or written.
    """
    in_file = read_file(path)
    if not in_file.flat:
        return None
    return _write(path, dict(in_file.found), keep_copy=True, now=now)


def _write(path: Path, found: dict[str, Found], *, keep_copy: bool, now: Clock) -> Path | None:
    document: dict[str, Any] = nested({key: each.value for key, each in found.items()})
    is_private = any(holds_secret(key, each.value) for key, each in found.items())
    checked = {
        k: each if each.origin.source is Source.FILE else Found(each.value, Origin()) for k, each in found.items()
    }
    validated(checked, Path.home())
    try:
        return write_document(path, document, keep_copy=keep_copy, now_s=int(now()), is_private=is_private)
    except OSError as exc:
        raise ConfigUnwritable(f"cannot write configuration file {path}: {exc.strerror}") from None
