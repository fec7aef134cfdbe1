"""Reading engine parameters, which are free JSON: one clear line when a value has the wrong type or size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from dms.executor.errors import InvalidEngineSpec
from dms.executor.text import shown
from dms.types.errors import BadInput
from dms.types.resources import SpecConfig
from dms.types.units import parse_duration_ns

MAX_ITEMS = 1024
MAX_TEXT_BYTES = 128 * 1024
"""Of all items of one list together: what the kernel takes for one argument or environment."""


class Params:
    """The parameters of one engine; ``engine`` names it in messages.

    :raises InvalidEngineSpec: the engine is another one, or a parameter is not among ``known``.
    """

    def __init__(self, spec: SpecConfig, engine: str, *, known: Iterable[str] | None = None) -> None:
        if spec.type.strip().lower() != engine:
            raise InvalidEngineSpec(
                f"invalid {engine} engine type. expected {engine}, but received: {shown(spec.type, 64)}"
            )
        self._engine = engine
        self._values: Mapping[str, object] = spec.params or {}
        if known is None:
            return
        unknown = sorted(set(self._values) - set(known))
        if unknown:
            raise self.error(f'unknown parameter "{unknown[0][:64]}"', hint=f"known are {', '.join(sorted(known))}")

    def error(self, reason: str, *, hint: str = "") -> InvalidEngineSpec:
        """The error that says so, in one line whatever it quotes."""
        return InvalidEngineSpec(f"invalid {self._engine} engine params: {shown(reason)}", hint=hint)

    def has(self, key: str) -> bool:
        """Whether it is given; ``null`` is as if absent."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        """A text without NUL, empty when absent."""
        return self._text(self._values.get(key, "") or "", key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, bounded in number and size."""
        value = self._values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise self.error(f"{key} must be a list of text")
        if len(value) > MAX_ITEMS:
            raise self.error(f"{key} has {len(value)} items, more than {MAX_ITEMS}")
        items = tuple(self._text(item, key) for item in value)
        if sum(len(item.encode()) + 1 for item in items) > MAX_TEXT_BYTES:
            raise self.error(f"{key} is longer than {MAX_TEXT_BYTES} bytes")
        return items

    def environment(self, key: str = "environment") -> tuple[tuple[str, str], ...]:
        """A list of ``KEY=VALUE``."""
        pairs = []
        for item in self.texts(key):
            name, separator, value = item.partition("=")
            if not name or not separator:
                raise self.error(f'{key} holds "{item[:64]}"', hint="write KEY=VALUE")
            pairs.append((name, value))
        return tuple(pairs)

    def mapping(self, key: str) -> dict[str, str]:
        """Text by text."""
        value = self._values.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.error(f"{key} must map text to text")
        return {self._text(name, key): self._text(item, key) for name, item in value.items()}

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{key} must be true or false")
        return bool(value)

    def number(self, key: str) -> float | None:
        """A positive number."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.error(f"{key} must be a positive number")
        return value

    def integer(self, key: str, *, maximum: int = 2**63 - 1) -> int | None:
        """A positive whole number."""
        value = self.number(key)
        if value is None:
            return None
        if value != int(value) or value > maximum:
            raise self.error(f"{key} must be a whole number from 1 to {maximum}")
        return int(value)

    def duration_s(self, key: str) -> float | None:
        """A positive duration such as ``90s`` or ``1h30m``, in seconds."""
        if not self.has(key):
            return None
        value = self._values[key]
        if not isinstance(value, str):
            raise self.error(f"{key} must be a duration", hint="write it like 90s, 5m or 1h30m")
        try:
            duration_ns = parse_duration_ns(value, what=key)
        except BadInput as exc:
            raise self.error(exc.message[:200], hint=exc.hint) from None
        if duration_ns <= 0:
            raise self.error(f"{key} must be longer than 0")
        return duration_ns / 1e9

    def _text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self.error(f"{key} must be text")
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise self.error(f"{key} holds a character that cannot be passed on")
        return value
