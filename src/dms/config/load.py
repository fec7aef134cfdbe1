"""Settings from their four sources: defaults, file, environment, flags; the later wins (``spec/platform.md`` 1.1)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dms.config.errors import ConfigError, InvalidSetting, UnknownKey
from dms.config.file import FILE_NAME, find_file, flatten, home_of, read_document, write_document
from dms.config.keys import FLAT_KEYS, FLAT_KEYS_WITHOUT_EFFECT, hint_for, kinds, missing, value_from_text
from dms.config.schema import Settings

ENV_PREFIX = "DMS_"


@dataclass(frozen=True, slots=True)
class _Found:
    """A value and, for messages, where it came from."""

    value: Any
    origin: str


def load_settings(
    config_file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings: flags over environment over file over defaults.

    ``config_file`` replaces the search for a file and must exist. ``overrides`` are flags by dotted key; ``None`` is
    a flag that was not given. ``env`` stands in for the process's environment (``HOME`` included).

    :raises ConfigError: unreadable file, unknown keys, or a value of the wrong kind; it names the key and its source.
    """
    env = os.environ if env is None else env
    source = config_file if config_file is not None else find_file(env)
    found, ignored = _from_file(source) if source is not None else ({}, ())
    found |= _from_environment(env)
    found |= _from_flags(overrides or {})
    settings = _validated(found, home_of(env))
    settings._source = source  # noqa: SLF001 (a private attribute so that it is no key)
    settings._ignored = ignored  # noqa: SLF001
    return settings


def set_key(path: Path, key: str, value_text: str) -> Path | None:
    """Change one key of the file at ``path`` (made when missing) to what ``value_text`` stands for.

    Only keys that were set are written. Answers with the copy kept of a file that held what is not written again.

    :raises SettingNotFound: no such key.
    :raises ConfigError: the value does not fit, or the file is not valid as it stands.
    """
    key = key.lower()
    if key not in kinds():
        raise missing(key)
    found, ignored = _from_file(path) if path.exists() else ({}, ())
    document = _nested({k: f.value for k, f in found.items()})
    node = document
    *groups, name = key.split(".")
    for group in groups:
        node = node.setdefault(group, {})
    node[name] = value_from_text(key, value_text)
    _validated({k: _Found(v, "") for k, v in flatten(document, path).items()}, Path.home())
    try:
        return write_document(path, document, keep_copy=bool(ignored))
    except OSError as exc:
        raise ConfigError(f"cannot write configuration file {path}: {exc.strerror}") from None


def _from_file(path: Path) -> tuple[dict[str, _Found], tuple[str, ...]]:
    origin = f" in {path}"
    found: dict[str, _Found] = {}
    flat: dict[str, _Found] = {}
    ignored: list[str] = []
    unknown: list[str] = []
    for key, value in flatten(read_document(path), path).items():
        old = key.removeprefix("observability.")
        if key in kinds():
            found[key] = _Found(value, origin)
        elif old in FLAT_KEYS:
            flat[FLAT_KEYS[old]] = _Found(value, origin)
        elif old in FLAT_KEYS_WITHOUT_EFFECT:
            ignored.append(key)
        elif any(known.startswith(key + ".") for known in kinds()):
            raise InvalidSetting(f"{key}{origin}: expected an object with settings, got {json.dumps(value)[:60]}")
        else:
            unknown.append(key)
    if unknown:
        raise _unknown(unknown, origin)
    return flat | found, tuple(ignored)  # a nested key wins over its flat predecessor


def _unknown(keys: list[str], origin: str) -> UnknownKey:
    names = ", ".join(f'"{key}"' for key in keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
    hints = [f"{key}: {hint}" if len(keys) > 1 else hint for key in keys[:8] if (hint := hint_for(key))]
    return UnknownKey(f"unknown key{'s' if len(keys) > 1 else ''} {names}{origin}", hint="; ".join(hints))


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, _Found]]:
    """``DMS_REST_PORT`` and the like; empty means not set. Other ``DMS_`` variables are not settings."""
    if env.get("BOOTSTRAP_PEERS"):
        yield "p2p.bootstrap_peers", _text("p2p.bootstrap_peers", env["BOOTSTRAP_PEERS"], "BOOTSTRAP_PEERS")
    for key in kinds():
        name = ENV_PREFIX + key.upper().replace(".", "_")
        if env.get(name):
            yield key, _text(key, env[name], name)


def _text(key: str, text: str, variable: str) -> _Found:
    origin = f" (environment variable {variable})"
    return _Found(value_from_text(key, text, origin), origin)


def _from_flags(overrides: Mapping[str, object]) -> Iterator[tuple[str, _Found]]:
    for key, value in overrides.items():
        if key not in kinds():
            raise missing(key)
        if value is not None:
            yield key, _Found(_jsonable(key, value), " (command line)")


def _jsonable(key: str, value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return value_from_text(key, value, " (command line)")
    return list(value) if isinstance(value, tuple) else value


def _validated(found: Mapping[str, _Found], home: Path) -> Settings:
    values = {key: f.value for key, f in found.items()}
    work_dir = values.get("general.work_dir", "~/nunet")
    if isinstance(work_dir, str):
        values.setdefault("observability.logging.file", str(Path(work_dir, "logs", "nunet-dms-logs.jsonl")))
    try:
        return Settings.model_validate(_with_all_sections(_nested(values)), context={"home": home})
    except ValidationError as exc:
        raise _invalid(exc, found) from None


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in values.items():
        node = document
        *groups, name = key.split(".")
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return document


def _with_all_sections(document: dict[str, Any]) -> dict[str, Any]:
    """Defaults of a section see the context (the home directory) only where the section is there."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            document.setdefault(name, {})
    return document


def _invalid(exc: ValidationError, found: Mapping[str, _Found]) -> InvalidSetting:
    error = exc.errors(include_url=False)[0]
    path = ".".join(str(part) for part in error["loc"] if isinstance(part, str))
    key = path if path in kinds() else next((k for k in found if k.startswith(path + ".")), path)
    origin = found[key].origin if key in found else ""
    text = error["msg"].removeprefix("Value error, ")
    return InvalidSetting(
        f"{path}{origin}: {text[:1].lower()}{text[1:]}, got {json.dumps(error['input'], default=str)[:80]}",
        hint=f"`nunet config set {key} <value>` or edit {FILE_NAME}" if path in kinds() else "",
    )
