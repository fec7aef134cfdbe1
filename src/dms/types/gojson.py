"""Canonical JSON: byte for byte what Go's ``encoding/json`` writes, and as tolerant as it when reading.

Signatures cover the re-encoding of a parsed structure (``spec/security.md`` §0), so both directions must agree
with the original exactly. A wire structure derives from :class:`Wire` and declares its fields in the order of the
original:

* a field *without* a default is always written (``nil`` bytes or lists: declare ``bytes | None``, ``None`` is ``null``);
* a field *with* an empty default (``""``, ``0``, ``b""``, ``()``, ``None``) is *omit-if-empty*.

Writing: no white space, struct order, map keys sorted, ``<>&`` and U+2028/9 escaped, bytes as padded base64,
floats in Go's notation. Reading: unknown keys are dropped, key names match ignoring case, of duplicate keys the
last wins, missing and ``null`` members become the zero value (after a duplicate, ``null`` leaves text, numbers and
structures as they are), invalid UTF-8 becomes U+FFFD.

``msgspec`` does the work on the fast path; whatever it does not accept as it stands takes the tolerant path.
"""

from __future__ import annotations

import base64
import functools
import json
import types
import typing
from decimal import Decimal
from typing import Any, ClassVar, NoReturn, TypeVar, cast

import msgspec

from dms.types.errors import BadJSON, NoJSON

MAX_DEPTH = 64
"""Nesting of arrays and objects that the reader follows; more is refused."""

T = TypeVar("T")


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all structures that travel or are signed; field order is the order on the wire.

    ``untagged_names``: also accept ``ClockSpeed`` for ``clock_speed``, as structures without key names were written once.
    """

    untagged_names: ClassVar[bool] = False


_fast = msgspec.json.Encoder(order="deterministic")
_ESCAPES = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))
_WIDE_ESCAPES = (("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"))


def encode(value: object) -> bytes:
    """``value`` as canonical JSON, UTF-8, no trailing newline."""
    kind: Any = type(value)
    raw = _fast.encode(value if _is_float_free(kind) or not _has_float(value) else _with_go_floats(value))
    for char, escape in _ESCAPES:
        if char in raw:
            raw = raw.replace(char, escape)
    if raw.isascii():
        return raw
    for char, escape in _WIDE_ESCAPES:
        raw = raw.replace(char, escape)
    return raw


def decode(data: bytes | bytearray | memoryview, type_: type[T]) -> T:
    """Parse ``data`` as ``type_`` the way Go would.

    :raises BadJSON: not JSON, too deep, or a member has the wrong type; the message says where.
    """
    try:
        return cast("T", _decoder(cast("Any", type_)).decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise BadJSON(f"nested deeper than {MAX_DEPTH} levels") from None
    return convert(_parse(bytes(data)), type_)


def convert(value: object, type_: type[T]) -> T:
    """An already parsed JSON value (dicts, lists, text, numbers) as ``type_``, with the same tolerance.

    :raises BadJSON: a member has the wrong type; the message says where.
    """
    try:
        return msgspec.convert(_coerce(value, type_, 0), type_)
    except msgspec.ValidationError as exc:
        raise BadJSON(str(exc)) from None


def parse(data: bytes) -> Any:  # JSON of unknown shape
    """Parse JSON of unknown shape into dicts, lists, text and numbers."""
    return _plain(_parse(data))


def to_builtins(value: object) -> Any:  # JSON of unknown shape
    """``value`` as dicts, lists, text and numbers, as its canonical JSON would parse."""
    return parse(encode(value))


class _Pairs(list[tuple[str, Any]]):
    """An object as read: its members in order, duplicates kept."""


def _parse(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_constant)
    except RecursionError:
        raise BadJSON(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as exc:
        raise BadJSON(f"not JSON: {exc}") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise BadJSON(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, _Pairs):
        return {_text(k): _plain(v, depth + 1) for k, v in value}
    if isinstance(value, list):
        return [_plain(v, depth + 1) for v in value]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """Go reads a lone surrogate escape as U+FFFD."""
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _coerce(value: Any, type_: Any, depth: int) -> Any:
    """Bring a parsed value into the shape that ``msgspec.convert`` takes for ``type_``."""
    if depth > MAX_DEPTH:
        raise BadJSON(f"nested deeper than {MAX_DEPTH} levels")
    type_ = _strip(type_)
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        if value is None:
            return None if len(inner) < len(args) else _zero(inner[0])
        return _coerce(value, inner[0], depth) if len(inner) == 1 else _plain(value)
    if value is None:
        return _zero(type_)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return _coerce_struct(value, type_, depth)
    if isinstance(value, dict):
        value = _Pairs(value.items())
    if isinstance(value, _Pairs):
        if origin is dict:
            return {_text(k): _coerce(v, args[1], depth + 1) for k, v in value}
        return _plain(value)
    if isinstance(value, list | tuple):
        if origin in (list, tuple, frozenset, set) and args:
            return [_coerce(v, args[0], depth + 1) for v in value]
        return _plain(list(value))
    return _text(value) if isinstance(value, str) else value


def _coerce_struct(value: Any, type_: type[msgspec.Struct], depth: int) -> Any:
    if isinstance(value, type_):
        return value
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(value, dict | _Pairs):
        return _text(value) if isinstance(value, str) else value  # convert() names the place
    by_name, required = _fields(type_)
    members: dict[str, Any] = {}
    for key, member in pairs:
        folded = key.lower()
        field = by_name.get(key) or by_name.get(folded)
        if field is None and getattr(type_, "untagged_names", False):
            field = by_name.get(folded.replace("_", ""))
        if field is None:
            continue
        name, field_type, optional = field
        if member is None and name in members and _keeps_on_null(field_type):
            continue
        if member is None and optional:
            members.pop(name, None)
            continue
        members[name] = _coerce(member, field_type, depth + 1)
    for name, field_type in required:
        if name not in members:
            members[name] = _zero(field_type)
    return members


@functools.cache
def _keeps_on_null(type_: Any) -> bool:
    """Whether Go leaves such a member as it is when ``null`` comes: all but bytes, lists, maps and pointers."""
    type_ = _strip(type_)
    return isinstance(type_, type) and issubclass(type_, str | int | float | bool | msgspec.Struct)


@functools.cache
def _fields(type_: type[msgspec.Struct]) -> tuple[dict[str, tuple[str, Any, bool]], list[tuple[str, Any]]]:
    fields = msgspec.structs.fields(type_)
    by_name = {f.encode_name.lower(): (f.encode_name, f.type, not f.required) for f in fields}
    by_name |= {f.encode_name: (f.encode_name, f.type, not f.required) for f in fields}
    if getattr(type_, "untagged_names", False):
        by_name = {
            f.encode_name.lower().replace("_", ""): (f.encode_name, f.type, not f.required) for f in fields
        } | by_name
    return by_name, [(f.encode_name, f.type) for f in fields if f.required]


def _strip(type_: Any) -> Any:
    """Look through ``Annotated``, ``NewType`` and ``type`` aliases."""
    while True:
        if typing.get_origin(type_) is typing.Annotated:
            type_ = typing.get_args(type_)[0]
        elif isinstance(type_, typing.NewType):
            type_ = type_.__supertype__
        else:
            return type_


def _zero(type_: Any) -> Any:
    """Go's zero value of a type, as parsed JSON."""
    type_ = _strip(type_)
    origin = typing.get_origin(type_)
    if origin in (typing.Union, types.UnionType):
        args = typing.get_args(type_)
        return None if type(None) in args else _zero(args[0])
    if origin in (list, tuple, set, frozenset):
        return []
    if origin is dict:
        return {}
    if isinstance(type_, type):
        if issubclass(type_, msgspec.Struct):
            return {name: _zero(t) for name, t in _fields(type_)[1]}
        for kind, zero in ((bool, False), (int, 0), (float, 0.0), (str, ""), (bytes, "")):
            if issubclass(type_, kind):
                return zero
    return None


@functools.cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:  # of any type
    return msgspec.json.Decoder(type_)


@functools.cache
def _is_float_free(type_: Any) -> bool:
    """Whether no value of this type can hold a float, so that msgspec may write it directly."""
    return _scan_float_free(type_, frozenset())


def _scan_float_free(type_: Any, seen: frozenset[Any]) -> bool:
    type_ = _strip(type_)
    if type_ in (str, int, bool, bytes, type(None)) or type_ in seen:
        return True
    args = typing.get_args(type_)
    if typing.get_origin(type_) is not None and args:
        return all(_scan_float_free(a, seen) for a in args if a is not Ellipsis)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return all(_scan_float_free(f.type, seen | {type_}) for f in msgspec.structs.fields(type_))
    return isinstance(type_, type) and issubclass(type_, str)


_LEAVES = frozenset({str, int, bool, bytes, type(None)})


def _has_float(value: Any) -> bool:
    """Whether plain JSON holds a float anywhere; true for whatever is not plain JSON."""
    kind = type(value)
    if kind in _LEAVES:
        return False
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return True
    # by type first: a long list of numbers is looked through at the speed of C
    return any(kind not in _LEAVES for kind in set(map(type, value))) and any(map(_has_float, value))


def _with_go_floats(value: Any) -> Any:
    if type(value) in _LEAVES:
        return value
    if isinstance(value, float):
        return msgspec.Raw(_go_float(value))
    if isinstance(value, msgspec.Struct):
        return msgspec.Raw(_object(value))
    if isinstance(value, dict):
        return {k: _with_go_floats(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_with_go_floats(v) for v in value]
    return value


def _object(value: msgspec.Struct) -> bytes:
    """A structure that holds a float somewhere; an ordered list of pairs would be sorted by the deterministic encoder."""
    tag, members = _members(type(value))
    parts = [tag] if tag else []
    for key, name, is_optional, default, is_float_free in members:
        member = getattr(value, name)
        if is_optional and (not member if default is msgspec.NODEFAULT else member == default):
            continue
        parts.append(key + _fast.encode(member if is_float_free else _with_go_floats(member)))
    return b"{" + b",".join(parts) + b"}"


@functools.cache
def _members(type_: type[msgspec.Struct]) -> tuple[bytes, tuple[tuple[bytes, str, bool, Any, bool], ...]]:
    """The tag of a structure as JSON, and of each member its key as JSON, its name, whether it may be left out, its default,
    and whether it holds no float; msgspec evaluates the annotations anew at every call."""
    config = type_.__struct_config__
    tag = b"" if config.tag is None else _fast.encode(config.tag_field) + b":" + _fast.encode(config.tag)
    return tag, tuple(
        (_fast.encode(f.encode_name) + b":", f.name, not f.required, f.default, _is_float_free(f.type))
        for f in msgspec.structs.fields(type_)
    )


def _go_float(value: float) -> bytes:
    """``strconv.FormatFloat(f, 'f' or 'e', -1, 64)`` as ``encoding/json`` chooses and trims it.

    :raises NoJSON: NaN and the infinities.
    """
    if value != value or value in (float("inf"), float("-inf")):
        raise NoJSON(f"{value} has no JSON form")
    if value == int(value) and abs(value) < 1e15:
        text = str(int(value))
        return b"-0" if text == "0" and str(value).startswith("-") else text.encode()
    if 1e-6 <= abs(value) < 1e21:
        text = format(Decimal(repr(value)), "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        mantissa, _, exponent = f"{value:e}".partition("e")
    sign = "-" if exponent.startswith("-") else "+"
    digits = exponent.lstrip("+-0") or "0"
    return f"{mantissa.removesuffix('.0')}e{sign}{digits}".encode()


def b64(data: bytes) -> str:
    """Standard base64 with padding, the form of bytes in canonical JSON."""
    return base64.b64encode(data).decode("ascii")
