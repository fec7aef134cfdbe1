"""The dotted keys of all settings, what they take, and which key somebody may have meant."""

from __future__ import annotations

import difflib
import functools
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dms.config.errors import InvalidSetting, SettingNotFound
from dms.config.schema import Settings

FLAT_KEYS: Mapping[str, str] = {
    "log_level": "observability.logging.level",
    "log_file": "observability.logging.file",
    "max_size": "observability.logging.rotation.max_size_mb",
    "max_backups": "observability.logging.rotation.max_backups",
    "max_age": "observability.logging.rotation.max_age_days",
}
"""Flat keys of release 0.5 below ``observability`` and where their values belong; read, never written."""

FLAT_KEYS_WITHOUT_EFFECT = frozenset(
    {
        "elasticsearch_url",
        "elasticsearch_index",
        "flush_interval",
        "elasticsearch_enabled",
        "elasticsearch_api_key",
        "insecure_skip_verify",
    }
)
"""Flat keys of release 0.5 for an output that this release does not have; read, reported, without effect."""

PARTS_ELSEWHERE = (
    "profiler.",
    "apm.",
    "observability.elastic.",
    "observability.otel.",
    "coinmarketcap.",
    "general.storage_",
    "general.compute_gateway",
    "general.providers",
    "general.payment_provider.",
    "job.require_contracts_for_deployment",
    "job.containerd.",
)
"""Keys of the original for parts that this release does not have: an error, with a better hint than a guess."""


@functools.cache
def kinds() -> Mapping[str, str]:
    """Every key and what it takes: ``text``, ``number``, ``boolean`` or ``list``."""
    return dict(_walk(Settings, ""))


def nearest(key: str) -> str:
    """The existing key that looks most like ``key``, or nothing."""
    close = difflib.get_close_matches(key.lower(), kinds(), n=1, cutoff=0.75)
    if close:
        return close[0]
    last = [k for k in kinds() if k.rpartition(".")[2] == key.lower().rpartition(".")[2]]
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


def value_from_text(key: str, text: str, origin: str = "") -> Any:  # JSON
    """The value that ``text`` stands for at ``key``: numbers, booleans, lists as JSON or separated by commas.

    :raises InvalidSetting: the key takes another kind of value.
    """
    kind, text = kinds()[key], text.strip()
    if kind == "number":
        try:
            return int(text)
        except ValueError:
            raise InvalidSetting(f"{key}{origin}: expected a number, got {text!r}") from None
    if kind == "boolean":
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
        raise InvalidSetting(f"{key}{origin}: expected true or false, got {text!r}")
    if kind == "list":
        return _list_from_text(key, text, origin)
    return text


def _list_from_text(key: str, text: str, origin: str) -> list[Any]:
    if not text.startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise InvalidSetting(
            f"{key}{origin}: not a JSON list: {exc}", hint="""write it like '["/ip4/0.0.0.0/tcp/9000"]'"""
        ) from None
    return list(value)


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, _kind(kind)


def _kind(annotation: Any) -> str:
    if typing.get_origin(annotation) is tuple:
        return "list"
    names = {bool: "boolean", int: "number", str: "text", Path: "text"}
    return names[annotation]
