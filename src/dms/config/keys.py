"""All settings as a list: what each key takes, what it means, and which key somebody may have meant."""

from __future__ import annotations

import difflib
import functools
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from dms.config.errors import InvalidSetting, SettingNotFound
from dms.config.schema import Settings
from dms.config.setting import traits_of
from dms.config.values import Kind

ENV_PREFIX = "DMS_"

FLAT_KEYS: Mapping[str, str] = {
    "log_level": "observability.logging.level",
    "log_file": "observability.logging.file",
    "max_size": "observability.logging.rotation.max_size_mb",
    "max_backups": "observability.logging.rotation.max_backups",
    "max_age": "observability.logging.rotation.max_age_days",
    "elasticsearch_url": "observability.elastic.url",
    "elasticsearch_index": "observability.elastic.index",
    "flush_interval": "observability.elastic.flush_interval",
    "elasticsearch_enabled": "observability.elastic.enabled",
    "elasticsearch_api_key": "observability.elastic.api_key",
    "insecure_skip_verify": "observability.elastic.insecure_skip_verify",
}
"""Flat keys of release 0.5, at the top or below ``observability``, and where their values belong; read, never written."""

PARTS_ELSEWHERE = (
    "profiler.",
    "coinmarketcap.",
    "general.storage_",
    "general.compute_gateway",
    "general.providers",
    "general.payment_provider.",
    "job.require_contracts_for_deployment",
    "job.containerd.",
)
"""Keys of the original for parts that this release does not have: an error, with a better hint than a guess."""

IGNORED_KEYS = frozenset({"$schema"})
"""Of a file: for editors, nothing to us."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. ``shape`` is ``text``, ``number``, ``boolean`` or ``list``; ``kind`` says it for people; ``default`` is
    JSON, without what depends on the machine.
    """

    name: str
    shape: str
    kind: str
    default: Any  # JSON
    meaning: str
    unit: str
    is_live: bool
    is_secret: bool
    minimum: int | None
    maximum: int | None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.upper().replace(".", "_")

    @property
    def bounds(self) -> str:
        """Which numbers are taken; nothing where all are."""
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum} to {self.maximum}"
        return "" if self.minimum is None else f"at least {self.minimum}"


@functools.cache
def keys() -> Mapping[str, Key]:
    """Every key, in the order of the schema."""
    return {key.name: key for key in _walk(Settings, "")}


def sections(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The dotted name of every section, outer ones first, and its class."""
    for name, field in model.model_fields.items():
        if (inner := section_of(field)) is not None:
            yield prefix + name, inner
            yield from sections(inner, f"{prefix}{name}.")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a field that is a section; ``None``: it is a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def nearest(key: str, among: Iterable[str] | None = None) -> str:
    """The existing key that looks most like ``key``, or nothing."""
    known = list(keys() if among is None else among)
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75)
    if close:
        return close[0]
    last = [k for k in known if k.rpartition(".")[2] == key.lower().rpartition(".")[2]]
    return last[0] if len(last) == 1 else ""


def hint_for(key: str) -> str:
    """How to mend an unknown key."""
    if key.startswith(PARTS_ELSEWHERE):
        return "it belongs to a part that this release does not have: remove it"
    near = nearest(key)
    return f'did you mean "{near}"?' if near else ""


def missing(key: str) -> SettingNotFound:
    """The error for a key that was asked for and does not exist."""
    return SettingNotFound(f'key "{key}" not found', hint=hint_for(key))


def known(key: str) -> Key:
    """The setting of that name, whatever its case.

    :raises SettingNotFound: there is none.
    """
    found = keys().get(key.lower())
    if found is None:
        raise missing(key)
    return found


def value_from_text(key: str, text: str, clause: str = "") -> Any:  # JSON
    """The value that ``text`` stands for at ``key``: numbers, booleans, lists as JSON or separated by commas.

    :raises InvalidSetting: the key takes another kind of value.
    """
    shape, text = keys()[key].shape, text.strip()
    if shape == "number":
        try:
            return int(text)
        except ValueError:
            raise InvalidSetting(f"{key}{clause}: expected a number, got {text[:80]!r}") from None
    if shape == "boolean":
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
        raise InvalidSetting(f"{key}{clause}: expected true or false, got {text[:80]!r}")
    if shape == "list":
        return _list_from_text(key, text, clause)
    return text


def _list_from_text(key: str, text: str, clause: str) -> list[Any]:
    if not text.startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidSetting(
            f"{key}{clause}: not a JSON list: {exc}", hint="""write it like '["/ip4/0.0.0.0/tcp/9000"]'"""
        ) from None
    return list(value)


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        if (inner := section_of(field)) is not None:
            yield from _walk(inner, f"{prefix}{name}.")
            continue
        traits = traits_of(field)
        yield Key(
            name=prefix + name,
            shape=_shape(field.annotation),
            kind=_kind(field),
            default=_default(field),
            meaning=field.description or "",
            unit=traits.unit,
            is_live=traits.is_live,
            is_secret=field.annotation is SecretStr,
            minimum=_bound(field, annotated_types.Ge, "ge"),
            maximum=_bound(field, annotated_types.Le, "le"),
        )


def _shape(annotation: object) -> str:
    if typing.get_origin(annotation) is tuple:
        return "list"
    shapes: dict[object, str] = {bool: "boolean", int: "number", str: "text", Path: "text", SecretStr: "text"}
    return shapes[annotation]


def _kind(field: FieldInfo) -> str:
    if typing.get_origin(field.annotation) is not tuple:
        return _named(field.metadata)
    item = typing.get_args(field.annotation)[0]
    return f"list of {_plural(_named(typing.get_args(item)[1:]))}"


def _named(metadata: Iterable[object]) -> str:
    return next(each.name for each in metadata if isinstance(each, Kind))


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith("ss") else f"{name}s"


def _bound(field: FieldInfo, kind: type[annotated_types.Ge | annotated_types.Le], name: str) -> int | None:
    return next((int(getattr(each, name)) for each in field.metadata if isinstance(each, kind)), None)


def _default(field: FieldInfo) -> Any:  # JSON
    value = field.default
    if field.default_factory is not None:
        value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return str(value) if isinstance(value, Path) else value
