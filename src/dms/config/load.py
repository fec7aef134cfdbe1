"""Settings from their sources: defaults, file, what was set at run time, environment, flags; the later wins
(``spec/platform.md`` 1.1).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dms.config.errors import ConfigError, ConfigUnreadable, InvalidSetting, UnknownKey
from dms.config.file import FILE_NAME, find_file, flatten, home_of, key_lines, parse, read_text
from dms.config.keys import ENV_PREFIX, FLAT_KEYS, IGNORED_KEYS, hint_for, keys, known, nearest, value_from_text
from dms.config.origin import Origin, Source
from dms.config.schema import Settings
from dms.config.values import MAX_SECRET_CHARS

FROM_FILE = "file:"
"""A secret that begins so lies in a file of its own."""
VARIABLES_ELSEWHERE = frozenset({"DMS_PASSPHRASE", "DMS_NETWORK", "DMS_NODE"})
WORK_DIR = "general.work_dir"
LOG_FILE = "observability.logging.file"


@dataclass(frozen=True, slots=True)
class Found:
    """A value, as JSON, and where it came from."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class InFile:
    """What a file holds: values by their newest keys, and the old flat keys that gave some of them."""

    found: Mapping[str, Found]
    flat: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """What settings were made of, so that they can be made again."""

    config_file: Path | None
    overrides: Mapping[str, object]
    env: Mapping[str, str]
    found: Mapping[str, Found]

    def __repr__(self) -> str:
        return f"Sources({self.config_file})"  # the environment holds secrets


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
    in_file = read_file(source) if source is not None else InFile({})
    found = {**in_file.found, **dict(_from_environment(env)), **dict(_from_flags(overrides or {}))}
    settings = validated(found, home_of(env))
    settings._source = source  # noqa: SLF001 (a private attribute so that it is no key)
    settings._flat_keys = in_file.flat  # noqa: SLF001
    settings._sources = Sources(config_file, dict(overrides or {}), env, found)  # noqa: SLF001
    return settings


def load_again(settings: Settings) -> Settings:
    """The settings from the same sources as they are now.

    :raises ConfigError: they cannot be used any more.
    """
    sources = _sources(settings)
    return load_settings(sources.config_file, sources.overrides, sources.env)


def with_live(settings: Settings, live: Mapping[str, Any]) -> Settings:
    """The settings with values that were set at run time: over the file, under environment and flags.

    :raises ConfigError: one does not fit.
    """
    sources = _sources(settings)
    found = dict(sources.found)
    for name, value in live.items():
        key = known(name).name
        if key not in found or not found[key].origin.is_fixed:
            found[key] = Found(value, Origin(Source.LIVE))
    merged = validated(found, home_of(sources.env))
    merged._source, merged._flat_keys = settings._source, settings._flat_keys  # noqa: SLF001
    merged._sources = replace(sources, found=found)  # noqa: SLF001
    return merged


def with_keys_of(settings: Settings, fresh: Settings, names: Collection[str]) -> Settings:
    """The settings, but for the keys ``names``, which are as in ``fresh``.

    :raises ConfigError: they do not fit together.
    """
    sources, others = _sources(settings), _sources(fresh)
    found = {key: each for key, each in sources.found.items() if key not in names}
    found |= {key: each for key, each in others.found.items() if key in names}
    merged = validated(found, home_of(sources.env))
    merged._source, merged._flat_keys = settings._source, settings._flat_keys  # noqa: SLF001
    merged._sources = replace(sources, found=found)  # noqa: SLF001
    return merged


def differences(one: Settings, other: Settings) -> tuple[str, ...]:
    """The keys whose values are not the same in both."""
    return tuple(key for key in keys() if one.value(key) != other.value(key))


def unknown_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that are written like those of settings and are not, and which one may have been meant."""
    known_ones = {key.variable for key in keys().values()} | VARIABLES_ELSEWHERE
    beginnings = tuple({f"{ENV_PREFIX}{name.partition('.')[0].upper()}_" for name in keys()})
    return {
        name: nearest(name.lower(), {each.lower() for each in known_ones}).upper()
        for name in sorted(env)
        if name.startswith(beginnings) and name not in known_ones
    }


def read_file(path: Path) -> InFile:
    """The values in a configuration file.

    :raises ConfigError: not readable, or a key that there is not; the message names the line.
    """
    text = read_text(path)
    lines = key_lines(text)
    found: dict[str, Found] = {}
    flat: dict[str, Found] = {}
    old_keys: list[str] = []
    unknown: list[str] = []
    for key, value in flatten(parse(text, path), path).items():
        origin = Origin(Source.FILE, f"{path}:{lines[key]}" if key in lines else str(path))
        old = key.removeprefix("observability.")
        if key in keys():
            found[key] = Found(value, origin)
        elif old in FLAT_KEYS:
            flat[FLAT_KEYS[old]] = Found(value, origin)
            old_keys.append(key)
        elif any(name.startswith(key + ".") for name in keys()):
            raise InvalidSetting(
                f"{key}{origin.clause}: expected an object with settings, got {json.dumps(value)[:60]}"
            )
        elif key not in IGNORED_KEYS:
            unknown.append(key)
    if unknown:
        raise _unknown(unknown, path, lines)
    return InFile(flat | found, tuple(old_keys))  # a nested key wins over its flat predecessor


def validated(found: Mapping[str, Found], home: Path) -> Settings:
    """Settings with these values and defaults for all others.

    :raises ConfigError: a value does not fit.
    """
    values = {key: _resolved(key, each) for key, each in found.items()}
    work_dir = values.get(WORK_DIR, "~/nunet")
    if isinstance(work_dir, str):
        values.setdefault(LOG_FILE, str(Path(work_dir, "logs", "nunet-dms-logs.jsonl")))
    try:
        return Settings.model_validate(_with_all_sections(nested(values)), context={"home": home})
    except ValidationError as exc:
        raise _invalid(exc, found) from None


def holds_secret(key: str, value: object) -> bool:
    """Whether a value is itself a secret that others must not read: not empty, and not the name of a file with one."""
    return keys()[key].is_secret and isinstance(value, str) and value != "" and not value.startswith(FROM_FILE)


def is_exposed(path: Path) -> bool:
    """Whether a configuration file holds secrets, and others than its owner may read it.

    :raises ConfigError: it cannot be read.
    """
    holds = any(holds_secret(key, each.value) for key, each in read_file(path).found.items())
    return holds and bool(path.stat().st_mode & 0o077)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as objects in objects."""
    document: dict[str, Any] = {}
    for key, value in values.items():
        node = document
        *groups, name = key.split(".")
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return document


def _sources(settings: Settings) -> Sources:
    sources = settings._sources  # noqa: SLF001
    if not isinstance(sources, Sources):
        raise ConfigError("these settings were not loaded, so that they cannot be loaded again")
    return sources


def _unknown(names: list[str], path: Path, lines: Mapping[str, int]) -> UnknownKey:
    if len(names) == 1:
        key = names[0]
        place = f"{path}:{lines[key]}" if key in lines else str(path)
        return UnknownKey(f'unknown key "{key}" in {place}', hint=hint_for(key))
    told = ", ".join(f'"{key}" (line {lines.get(key, "?")})' for key in names[:8])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    hints = [f"{key}: {hint}" for key in names[:8] if (hint := hint_for(key))]
    return UnknownKey(f"unknown keys in {path}: {told}{more}", hint="; ".join(hints))


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, Found]]:
    """``DMS_REST_PORT`` and the like; empty means not set. Other ``DMS_`` variables are not settings."""
    if env.get("BOOTSTRAP_PEERS"):
        yield "p2p.bootstrap_peers", _text("p2p.bootstrap_peers", env["BOOTSTRAP_PEERS"], "BOOTSTRAP_PEERS")
    for name, key in keys().items():
        if env.get(key.variable):
            yield name, _text(name, env[key.variable], key.variable)


def _text(key: str, text: str, variable: str) -> Found:
    origin = Origin(Source.ENVIRONMENT, variable)
    return Found(value_from_text(key, text, origin.clause), origin)


def _from_flags(overrides: Mapping[str, object]) -> Iterator[tuple[str, Found]]:
    origin = Origin(Source.FLAG)
    for name, value in overrides.items():
        key = known(name).name
        if value is not None:
            yield key, Found(_jsonable(key, value, origin), origin)


def _jsonable(key: str, value: object, origin: Origin) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return value_from_text(key, value, origin.clause)
    return list(value) if isinstance(value, tuple) else value


def _resolved(key: str, found: Found) -> Any:  # JSON
    """The value; of a secret that lies in a file of its own, what that file holds."""
    value = found.value
    if not (keys()[key].is_secret and isinstance(value, str) and value.startswith(FROM_FILE)):
        return value
    path = Path(value.removeprefix(FROM_FILE)).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_SECRET_CHARS + 2).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not text"
        raise ConfigUnreadable(f"{key}{found.origin.clause}: cannot read the secret in {path}: {reason}") from None


def _with_all_sections(document: dict[str, Any]) -> dict[str, Any]:
    """Defaults of a section see the context (the home directory) only where the section is there."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            document.setdefault(name, {})
    return document


def _invalid(exc: ValidationError, found: Mapping[str, Found]) -> InvalidSetting:
    error = exc.errors(include_url=False)[0]
    path = ".".join(str(part) for part in error["loc"] if isinstance(part, str))
    key = path if path in keys() else next((k for k in found if k.startswith(path + ".")), path)
    clause = found[key].origin.clause if key in found else ""
    text = error["msg"].removeprefix("Value error, ")
    is_secret = key in keys() and keys()[key].is_secret
    got = "" if is_secret else f", got {json.dumps(error['input'], default=str)[:80]}"
    return InvalidSetting(
        f"{path}{clause}: {text[:1].lower()}{text[1:]}{got}",
        hint=f"`nunet config set {key} <value>` or edit {FILE_NAME}" if path in keys() else "",
    )
