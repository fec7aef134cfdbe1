"""The kinds of values that the format is made of. Each can read a value and can describe itself as JSON schema.

That both come from one object is what keeps the validator and the schema in agreement. Reading never raises: problems
are noted with the reader, and :data:`~dms.ensemble.reading.INVALID` is returned in place of the value.
"""

from __future__ import annotations

import base64
import binascii
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from dms.ensemble.problem import shorten
from dms.ensemble.reading import Invalid, Reader, nearest
from dms.ensemble.tree import Scalar, Tree, is_null, kind_of
from dms.types.errors import BadInput
from dms.types.units import exact_bytes, exact_duration, exact_hertz, parse_bytes, parse_duration_ns, parse_hertz

JSON = Any  # parsed JSON of any shape: what kinds return and schemas are made of

MAX_INT = 2**63 - 1
MAX_NUMBER_CHARS = 64
NUMBER = r"^\s*[+-]?\d*\.?\d+(?:[eE][+-]?\d{1,3})?\s*$"
WHOLE = r"^\s*\+?\d{1,18}\s*$"
QUANTITY = r"^\s*[+-]?\d*\.?\d+(?:[eE][+-]?\d{1,3})?\s*([a-zA-Z]+)?\s*$"
DURATION = r"^\s*[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d))+)\s*$"
_PLACEHOLDER: dict[str, JSON] = {"type": "string", "pattern": r"\$\{"}


class Kind(ABC):
    """One kind of value."""

    has_free_keys: ClassVar[bool] = False
    """Whether it is a map in which every key counts, whatever its value."""

    @abstractmethod
    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The canonical form of the value, as parsed JSON, or ``INVALID`` once the problem is noted."""

    @abstractmethod
    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """What a person may write, as JSON schema; shared parts are put into ``defs``."""

    def write(self, value: JSON) -> JSON:
        """The inverse of reading: how a person would write this part of the canonical form."""
        return value


def _scalar(tree: Tree, path: str, r: Reader, expected: str) -> Scalar | Invalid:
    """The value behind placeholders, if it is a single value that is text-like."""
    tree_ = r.resolve(tree, path)
    if isinstance(tree_, Invalid):
        return tree_
    if not isinstance(tree_, Scalar) or is_null(tree_):
        return r.fail(tree_, path, f"must be {expected}, not {kind_of(tree_)}", value=shown(tree_))
    if tree_.is_binary:
        hint = "only module, files and scripts take files that are not text"
        return r.fail(tree_, path, "the file is not UTF-8 text", hint=hint, value=tree_.raw)
    return tree_


def escaped(text: JSON) -> JSON:
    """Text that stays what it is when placeholders are resolved."""
    return text.replace("${", "$${") if isinstance(text, str) else text


def shown(tree: Tree) -> str:
    """A single value as it was written, shortened; nothing for lists and maps."""
    return shorten(tree.raw) if isinstance(tree, Scalar) else ""


@dataclass(frozen=True)
class Text(Kind):
    """Text; numbers and truth values that stand where text belongs are taken as they are written."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    advice: str = ""
    """What fits the pattern, in words."""
    may_be_empty: bool = False
    what: str = ""
    max_chars: int = 300
    """Of text that has a pattern; other text is bounded by the document."""
    fold: Callable[[str], str] | None = None
    """Brings old or careless spellings of a choice into its present form."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """Text that satisfies the choices or the pattern."""
        scalar = _scalar(tree, path, r, "text")
        if isinstance(scalar, Invalid):
            return scalar
        if r.is_wire and not isinstance(scalar.value, str):
            return r.fail(scalar, path, f"must be text, not {kind_of(scalar)}", value=scalar.raw)
        text = scalar.raw
        if self.choices:
            return self._choice(scalar, text, path, r)
        if not text.strip() and not self.may_be_empty:
            return r.fail(scalar, path, "must not be empty")
        if "\0" in text:
            return r.fail(scalar, path, "must not hold a NUL character")
        if self.pattern and not (len(text) <= self.max_chars and re.fullmatch(self.pattern, text)):
            reason = f"{shorten(text)!r} is not {self.what or 'valid'}"
            return r.fail(scalar, path, reason, hint=self.advice, value=text)
        return text

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """A string; an enumeration where there are choices."""
        if self.choices:
            return {"anyOf": [{"enum": list(self.choices)}, _PLACEHOLDER]}
        plain: dict[str, JSON] = {"type": ["string", "number", "boolean"]}
        if self.pattern:
            return {"anyOf": [plain | {"pattern": f"^(?:{self.pattern})$"}, _PLACEHOLDER]}
        return plain if self.may_be_empty else plain | {"pattern": r"\S"}

    def write(self, value: JSON) -> JSON:
        """The text, in which ``${`` is itself."""
        return escaped(value)

    def _choice(self, scalar: Scalar, text: str, path: str, r: Reader) -> JSON:
        if text in self.choices:
            return text
        folded = self.fold(text) if self.fold else text.strip().lower()
        for choice in self.choices:
            if folded.lower() == choice.lower():
                r.warn(scalar, path, f"{shorten(text)!r} is written {choice!r} today", value=text)
                return choice
        reason = f"{shorten(text)!r} is not {self.what or 'valid'}"
        near = nearest(text, self.choices)
        hint = f"did you mean `{near}`?" if near else f"use {', '.join(self.choices)}"
        return r.fail(scalar, path, reason, hint=hint, value=text)


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number."""

    minimum: int = 0
    maximum: int = MAX_INT
    extra: frozenset[int] = frozenset()
    """Allowed although outside the bounds."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """A number within the bounds."""
        scalar = _scalar(tree, path, r, "a whole number")
        if isinstance(scalar, Invalid):
            return scalar
        value: object = scalar.value
        if isinstance(value, str) and not r.is_wire and re.fullmatch(WHOLE, value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return r.fail(scalar, path, "must be a whole number", value=scalar.raw)
        if not self.minimum <= value <= self.maximum and value not in self.extra:
            return r.fail(scalar, path, self._bounds(), value=scalar.raw)
        return value

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An integer, or digits."""
        number: dict[str, JSON] = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        options: list[JSON] = [number]
        if self.extra:
            options.append({"enum": sorted(self.extra)})
        return {"anyOf": [*options, {"type": "string", "pattern": WHOLE}, _PLACEHOLDER]}

    def _bounds(self) -> str:
        extra = "".join(f"{value} or " for value in sorted(self.extra))
        if self.maximum < MAX_INT:
            return f"must be {extra}from {self.minimum} to {self.maximum}"
        if not extra and self.minimum == 1:
            return "must be positive"
        return f"must be {extra}at least {self.minimum}"


@dataclass(frozen=True)
class Number(Kind):
    """A positive number; ``decimals`` rounds it, not to zero."""

    label: str
    decimals: int | None = None

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """A number above zero."""
        scalar = _scalar(tree, path, r, "a number")
        if isinstance(scalar, Invalid):
            return scalar
        value: object = scalar.value
        if isinstance(value, str) and not r.is_wire and len(value) <= MAX_NUMBER_CHARS and re.fullmatch(NUMBER, value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > MAX_INT:
            return r.fail(scalar, path, f"{self.label} must be a valid number", value=scalar.raw)
        if value <= 0:
            return r.fail(scalar, path, f"{self.label} must be positive", value=scalar.raw)
        if self.decimals is None:
            return value
        return max(round(value, self.decimals), 10**-self.decimals)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """A number, or its digits."""
        number = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_INT}
        return {"anyOf": [number, {"type": "string", "pattern": NUMBER}, _PLACEHOLDER]}


@dataclass(frozen=True)
class Quantity(Kind):
    """An amount with a unit when a person writes it, a whole number of the base unit on the wire."""

    label: str
    parse: Callable[..., int]
    default_unit: str
    must_be_positive: bool = False

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The amount in the base unit."""
        scalar = _scalar(tree, path, r, "an amount")
        if isinstance(scalar, Invalid):
            return scalar
        value = scalar.value
        if isinstance(value, bool) or value is None or (r.is_wire and isinstance(value, str)):
            return r.fail(scalar, path, f"{self.label} must be a valid number", value=scalar.raw)
        if r.is_wire:
            amount = self._on_wire(value)
            if amount is None:
                return r.fail(scalar, path, f"{self.label} must be a valid number", value=scalar.raw)
        else:
            try:
                if isinstance(value, str) and not (len(value) <= MAX_NUMBER_CHARS and re.fullmatch(QUANTITY, value)):
                    raise BadInput(
                        f"invalid {self.label} value: {shorten(value)!r}", hint="write it like 512MiB or 2.4GHz"
                    )
                amount = self.parse(value, default_unit=self.default_unit, what=self.label)
            except BadInput as exc:
                is_negative = scalar.raw.lstrip().startswith("-")
                reason = f"{self.label} must be positive" if is_negative else exc.message
                return r.fail(scalar, path, reason, hint=exc.hint, value=scalar.raw)
            except ArithmeticError:
                return r.fail(scalar, path, f"{self.label} must be a valid number", value=scalar.raw)
        if amount < 0 or (amount == 0 and self.must_be_positive):
            return r.fail(scalar, path, f"{self.label} must be positive", value=scalar.raw)
        return amount

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """A number of the default unit, or text with a unit."""
        number: dict[str, JSON] = {"type": "number"}
        number["exclusiveMinimum" if self.must_be_positive else "minimum"] = 0
        return {"anyOf": [number, {"type": "string", "pattern": QUANTITY}, _PLACEHOLDER]}

    def write(self, value: JSON) -> JSON:
        """With the largest unit that leaves nothing over."""
        return exact_hertz(int(value)) if self.default_unit == "GHz" else exact_bytes(int(value))

    @staticmethod
    def _on_wire(value: object) -> int | None:
        if isinstance(value, float) and value == value and abs(value) <= MAX_INT:
            return int(value)
        return value if isinstance(value, int) and abs(value) <= MAX_INT else None


def size(label: str, *, must_be_positive: bool = False) -> Quantity:
    """Bytes; GiB when a person gives no unit."""
    return Quantity(label, parse_bytes, "GiB", must_be_positive)


def frequency(label: str) -> Quantity:
    """Hertz; GHz when a person gives no unit."""
    return Quantity(label, parse_hertz, "GHz")


@dataclass(frozen=True)
class Duration(Kind):
    """A time span: Go's text from people; on the wire nanoseconds, or the text itself with ``stays_text``."""

    stays_text: bool = False

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """A span above zero."""
        scalar = _scalar(tree, path, r, "a duration")
        if isinstance(scalar, Invalid):
            return scalar
        value = scalar.value
        hint = "write it like 90s, 5m or 1h30m"
        if r.is_wire and not self.stays_text:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_INT:
                return r.fail(scalar, path, "must be a positive number of nanoseconds", value=scalar.raw)
            return value
        if not isinstance(value, str) or len(value) > MAX_NUMBER_CHARS:
            return r.fail(scalar, path, "must be a duration", hint=hint, value=scalar.raw)
        try:
            nanoseconds = parse_duration_ns(value)
        except BadInput as exc:
            return r.fail(scalar, path, exc.message, hint=exc.hint, value=value)
        if not 0 < nanoseconds <= MAX_INT:
            return r.fail(scalar, path, "must be positive and below 290 years", hint=hint, value=value)
        return value.strip() if self.stays_text else nanoseconds

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """Text such as 1m30s."""
        return {"anyOf": [{"type": "string", "pattern": DURATION}, _PLACEHOLDER]}

    def write(self, value: JSON) -> JSON:
        """Text."""
        return escaped(value) if self.stays_text else exact_duration(int(value))


@dataclass(frozen=True)
class Bool(Kind):
    """True or false."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """A truth value; ``yes`` and ``no`` are understood from people."""
        scalar = _scalar(tree, path, r, "true or false")
        if isinstance(scalar, Invalid):
            return scalar
        if isinstance(scalar.value, bool):
            return scalar.value
        text = scalar.raw.strip().lower()
        if not r.is_wire and isinstance(scalar.value, str) and text in _TRUTH:
            return _TRUTH[text]
        return r.fail(scalar, path, "must be true or false", value=scalar.raw)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """A boolean."""
        return {"anyOf": [{"type": "boolean"}, {"enum": sorted(_TRUTH)}, _PLACEHOLDER]}


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Bytes(Kind):
    """Any bytes: from a person text (as UTF-8) or one ``${file:…}``; in JSON base64."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The bytes in base64."""
        tree_ = r.resolve(tree, path)
        if isinstance(tree_, Invalid):
            return tree_
        if not isinstance(tree_, Scalar) or is_null(tree_):
            reason = f"must be text or ${{file:…}}, not {kind_of(tree_)}"
            return r.fail(tree_, path, reason)
        if r.is_wire:
            return self._base64(tree_, path, r)
        content = tree_.content if tree_.content is not None else tree_.raw.encode("utf-8", "replace")
        return base64.b64encode(content).decode("ascii")

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """Text."""
        return {"type": ["string", "number", "boolean"]}

    def write(self, value: JSON) -> JSON:
        """Text where it is text; otherwise bytes, which YAML writes as ``!!binary``."""
        content = base64.b64decode(value)
        try:
            return escaped(content.decode())
        except UnicodeDecodeError:
            return content

    def _base64(self, scalar: Scalar, path: str, r: Reader) -> JSON:
        try:
            if not isinstance(scalar.value, str):
                raise TypeError
            base64.b64decode(scalar.value, validate=True)
        except (ValueError, TypeError, binascii.Error):
            return r.fail(scalar, path, "must be bytes in base64", value=shorten(scalar.raw))
        return scalar.value
