"""The members of a structure by name: where they stand in its JSON, what kind of value they hold, what they are if left out."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from dms.store.errors import InvalidData

Scalar = str | int | float | bool | None

BASE_FIELDS = ("id", "created_at", "updated_at")
"""What every record has beside its value; a member of the same name comes first."""


@dataclass(frozen=True, slots=True)
class Member:
    """One scalar of a structure; without a path, one of :data:`BASE_FIELDS`."""

    path: tuple[str, ...]
    """Names as the JSON has them, outermost first."""
    kind: type
    """``bool``, ``int``, ``float`` or ``str``; of an enumeration, that of its values."""
    default: Scalar = None
    """What it is where the JSON leaves it out."""
    is_optional: bool = False
    """Whether it may be ``None``."""
    attributes: tuple[str, ...] = ()
    """Names as the structure has them, outermost first."""


@dataclass(frozen=True, slots=True)
class Part:
    """One member that is no scalar, such as a list: stored whole, never compared."""

    path: tuple[str, ...]
    attributes: tuple[str, ...] = ()


def resolve(type_: type[msgspec.Struct], name: str) -> Member:
    """The scalar that ``name`` means: dotted, each part as the structure or its JSON calls it.

    :raises InvalidData: there is none.
    """
    path: list[str] = []
    here: Any = type_
    default: Any = msgspec.NODEFAULT
    is_optional = False
    for part in name.split("."):
        members = msgspec.structs.fields(here) if _is_struct(here) else ()
        field = next((f for f in members if part in (f.name, f.encode_name)), None)
        if field is None:
            if not path and name in BASE_FIELDS:
                return Member((), str if name == "id" else int)
            raise InvalidData(f'invalid data given: {type_.__name__} has no field "{name}"')
        path.append(field.encode_name)
        default = getattr(default, field.name) if isinstance(default, msgspec.Struct) else _default(field)
        here, may_be_none = _bare(field.type)
        is_optional = is_optional or may_be_none
    kind = _kind(here)
    if kind is None:
        raise InvalidData(f'invalid data given: "{name}" cannot be compared')
    return Member(tuple(path), kind, _scalar(default), is_optional)


def leaves(type_: type[msgspec.Struct]) -> tuple[Member | Part, ...]:
    """All members, those of structures inside it one by one, as long as these are always there."""
    return tuple(_leaves(type_, msgspec.NODEFAULT, (), ()))


def _leaves(
    type_: Any, default: Any, above: tuple[str, ...], attributes_above: tuple[str, ...]
) -> typing.Iterator[Member | Part]:
    for field in msgspec.structs.fields(type_):
        path, attributes = (*above, field.encode_name), (*attributes_above, field.name)
        inner = getattr(default, field.name) if isinstance(default, msgspec.Struct) else _default(field)
        bare, is_optional = _bare(field.type)
        kind = _kind(bare)
        if kind is not None:
            yield Member(path, kind, _scalar(inner), is_optional, attributes)
        elif _is_struct(bare) and not is_optional and bare.__struct_config__.tag is None:
            yield from _leaves(bare, inner, path, attributes)
        else:
            yield Part(path, attributes)


def _scalar(default: Any) -> Scalar:
    default = default.value if isinstance(default, Enum) else default
    return default if isinstance(default, str | int | float) else None


def _kind(type_: Any) -> type | None:
    if not (isinstance(type_, type) and issubclass(type_, str | int | float)):
        return None
    return next(k for k in (bool, int, float, str) if issubclass(type_, k))


def _default(field: Any) -> Any:  # msgspec does not type FieldInfo's defaults
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _bare(type_: Any) -> tuple[Any, bool]:
    """Without ``Annotated``, ``NewType`` and ``| None``, and whether that was there; an enumeration is its values' type."""
    is_optional = False
    while True:
        origin = typing.get_origin(type_)
        if origin is typing.Annotated:
            type_ = typing.get_args(type_)[0]
        elif isinstance(type_, typing.NewType):
            type_ = type_.__supertype__
        elif origin in (typing.Union, types.UnionType):
            rest = [a for a in typing.get_args(type_) if a is not type(None)]
            is_optional = is_optional or len(rest) < len(typing.get_args(type_))
            if len(rest) != 1:
                return type_, is_optional
            type_ = rest[0]
        elif isinstance(type_, type) and issubclass(type_, Enum):
            return type(next(iter(type_)).value), is_optional
        else:
            return type_, is_optional
