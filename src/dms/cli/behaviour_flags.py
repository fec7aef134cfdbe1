"""What is known of a behaviour: its flags, and the payload made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Flags = Mapping[str, Any]
"""Values of flags by the name of the flag; their types are those of :class:`Flag`."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag; ``kind`` is ``str``, ``int``, ``float``, ``bool`` or ``list`` (of texts)."""

    name: str
    help: str
    kind: type = str
    short: str = ""
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class KnownBehaviour:
    """A behaviour, its flags and its payload; with a ``topic`` it is broadcast."""

    name: str
    help: str
    flags: tuple[Flag, ...] = ()
    payload: Callable[[Flags], object] = field(default=lambda _flags: None)
    topic: str = ""
    timeout_s: float = 0.0
