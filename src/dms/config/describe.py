"""The settings for editors and for people: a JSON schema, and a file with every key in comments."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from dms.config.keys import Key, keys, section_of
from dms.config.schema import Settings

WIDTH = 100
_STEP = " " * 4

_TYPES = {"number": "integer", "boolean": "boolean", "text": "string", "list": "array"}
INTRODUCTION = (
    "Every setting with its default, in comments: take the // away before those that shall differ. "
    "Comments and commas at the end of a list are accepted here; nunet config set writes the file without them."
)


def json_schema() -> dict[str, Any]:
    """A JSON schema of the file, as editors use it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dms_config.json",
        "description": "Settings of nunet; what is left out has its default.",
        **_object(Settings, ""),
    }


def example() -> str:
    """A file that holds nothing but comments: every section, every key, its meaning and its default."""
    return "\n".join(["{", *_comment(INTRODUCTION, _STEP), *_lines(Settings, "", _STEP), "}", ""])


def told(key: Key) -> str:
    """What there is to say of a key beside its name and default, as one sentence without a full stop."""
    parts = [key.meaning, *([key.unit] if key.unit else []), *([key.bounds] if key.bounds else [])]
    live = "; may change while the node runs" if key.is_live else ""
    return f"{parts[0]} ({', '.join([key.kind, *parts[1:]])}{live})"


def _object(model: type[BaseModel], prefix: str) -> dict[str, Any]:
    members: dict[str, Any] = {"$schema": {"type": "string"}} if not prefix else {}
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            about = {"description": (inner.__doc__ or "").strip()}
            members[name] = {**about, **_object(inner, f"{prefix}{name}.")}
        else:
            members[name] = _property(keys()[prefix + name])
    return {"type": "object", "additionalProperties": False, "properties": members}


def _property(key: Key) -> dict[str, Any]:
    described: dict[str, Any] = {"type": _TYPES[key.shape], "description": told(key), "default": key.default}
    if key.shape == "list":
        described["items"] = {"type": "string"}
    if key.minimum is not None:
        described["minimum"] = key.minimum
    if key.maximum is not None:
        described["maximum"] = key.maximum
    return described


def _lines(model: type[BaseModel], prefix: str, indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            yield from ("", *_comment((inner.__doc__ or "").strip(), indent), f"{indent}{json.dumps(name)}: {{")
            yield from _lines(inner, f"{prefix}{name}.", indent + _STEP)
            yield f"{indent}}},"
            continue
        key = keys()[prefix + name]
        yield from _comment(told(key), indent)
        yield f"{indent}// {json.dumps(name)}: {json.dumps(key.default, ensure_ascii=False)},"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH - len(indent) - 3):
        yield f"{indent}// {line}"
