"""How one setting is declared: its default and meaning beside its unit, and whether it may change while the node runs.

Type and bounds stand in the annotation (:mod:`dms.config.values`), everything else here; the reference page, the JSON
schema and the commented example are made of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

_TRAITS = "x-setting"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is said of a setting beside type, default and meaning."""

    unit: str = ""
    is_live: bool = False
    """It may be changed while the node runs, and takes effect at once."""


def setting(
    default: Any,  # of the type that the annotation says; pydantic checks it
    meaning: str,
    *,
    unit: str = "",
    live: bool = False,
    **bounds: Any,  # what Field takes: ge, le, min_length
) -> Any:  # stands where the value will stand
    """Declare a setting with its default; a function of the settings before it in its section may make the default."""
    made: dict[str, Any] = {"default_factory": default} if isinstance(default, Callable) else {"default": default}  # type: ignore[arg-type]  # a Callable is a class at run time
    return Field(description=meaning, json_schema_extra={_TRAITS: [unit, live]}, **made, **bounds)


def traits_of(field: FieldInfo) -> Traits:
    """What :func:`setting` was told."""
    extra = field.json_schema_extra
    found = extra.get(_TRAITS) if isinstance(extra, dict) else None
    if not isinstance(found, list):
        raise TypeError(f"{field!r} is not declared with setting()")
    return Traits(str(found[0]), bool(found[1]))
