"""Quantities as people write them: sizes, frequencies, durations (``spec/ensemble.md`` 2.3, Go's duration syntax)."""

from __future__ import annotations

import re
from decimal import Decimal

from dms.types.errors import BadInput

_QUANTITY = re.compile(r"^([+-]?\d*\.?\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Z]+)?$", re.ASCII)
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_SI = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}


def parse_bytes(value: str | float, *, default_unit: str = "GiB", what: str = "size") -> int:
    """A size as bytes: a number in ``default_unit``, or text such as ``512MiB``, ``1.5 GB``, ``2G`` (one letter is decimal).

    :raises BadInput: not a number, unknown unit, or negative.
    """
    number, unit = _split(value, what)
    unit = (unit or default_unit).lower()
    factor = None
    if unit in ("b", ""):
        factor = 1
    elif unit.endswith("ib") and unit[:-2] in _BINARY:
        factor = _BINARY[unit[:-2]]
    elif unit.removesuffix("b") in _DECIMAL:
        factor = _DECIMAL[unit.removesuffix("b")]
    if factor is None:
        raise BadInput(f'invalid unit "{unit}" for {what}', hint="use B, KB, MB, GB, TB or KiB, MiB, GiB, TiB")
    return _whole(number * factor, what)


def parse_hertz(value: str | float, *, default_unit: str = "GHz", what: str = "clock speed") -> int:
    """A frequency as hertz: a number in ``default_unit``, or text such as ``2.4 GHz``.

    :raises BadInput: not a number, unknown unit, or negative.
    """
    number, unit = _split(value, what)
    unit = (unit or default_unit).lower()
    if not unit.endswith("hz") or unit[:-2] not in _SI:
        raise BadInput(f'invalid unit "{unit}" for {what}', hint="use Hz, kHz, MHz or GHz")
    return _whole(number * _SI[unit[:-2]], what)


def parse_duration_ns(value: str, *, what: str = "duration") -> int:
    """Go's duration text (``90s``, ``1h30m``, ``250ms``; also ``d`` for days) as nanoseconds.

    :raises BadInput: not a duration.
    """
    text = value.strip()
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    total, end = Decimal(0), 0
    for match in _DURATION_PART.finditer(body):
        if match.start() != end:
            break
        total += Decimal(match[1]) * _NS[match[2]]
        end = match.end()
    if not body or end != len(body):
        raise BadInput(f'invalid {what} "{value}"', hint="write it like 90s, 5m or 1h30m")
    return sign * int(total)


def exact_bytes(size: int) -> str:
    """Bytes so that :func:`parse_bytes` gives the same again: ``512MiB``, ``1GB``, ``1025B``."""
    return _exact(
        size, (*((f"{p.upper()}iB", _BINARY[p]) for p in "tgmk"), *((f"{p.upper()}B", _DECIMAL[p]) for p in "tgm")), "B"
    )


def exact_hertz(hertz: int) -> str:
    """Hertz so that :func:`parse_hertz` gives the same again: ``2.4GHz``, ``800MHz``."""
    if hertz >= 10**9 and hertz % 10**6 == 0:
        return f"{Decimal(hertz) / 10**9:f}GHz"
    return _exact(hertz, (("MHz", 10**6), ("kHz", 10**3)), "Hz")


def exact_duration(nanoseconds: int) -> str:
    """Nanoseconds so that :func:`parse_duration_ns` gives the same again: ``90s``, ``2h``, ``1500ms``."""
    return _exact(nanoseconds, tuple((unit, _NS[unit]) for unit in ("d", "h", "m", "s", "ms", "us")), "ns")


def _exact(number: int, units: tuple[tuple[str, int], ...], base: str) -> str:
    for unit, factor in units:
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return f"{number}{base}"


def format_bytes(size: int) -> str:
    """Bytes for people: ``1.5 GiB``, with the largest binary unit that leaves at least one."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024 or unit == "TiB":
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def format_hertz(hertz: float) -> str:
    """Hertz for people: ``2.4 GHz``."""
    for factor, unit in ((10**9, "GHz"), (10**6, "MHz"), (10**3, "kHz")):
        if abs(hertz) >= factor:
            return f"{hertz / factor:.1f} {unit}"
    return f"{hertz:g} Hz"


def format_duration(seconds: float) -> str:
    """Seconds for people: ``950 ms``, ``3.2 s``, ``5m 03s``, ``2h 05m``, ``3d 4h``."""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    if abs(seconds) < 60:
        return f"{seconds:.1f} s"
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {secs:02d}s"


def _split(value: str | float, what: str) -> tuple[Decimal, str]:
    if isinstance(value, bool):
        raise BadInput(f"invalid {what} value: {value}")
    if isinstance(value, int | float):
        return Decimal(repr(value)), ""
    match = _QUANTITY.match(value.strip())
    if match is None:
        raise BadInput(f'invalid {what} value: "{value}"', hint="write a number and a unit, such as 512MiB")
    return Decimal(match[1]), match[2] or ""


def _whole(amount: Decimal, what: str) -> int:
    if not amount.is_finite() or amount < 0:
        raise BadInput(f"invalid {what} value: {amount} is not a positive number")
    if amount > 2**63 - 1:
        raise BadInput(f"invalid {what} value: {amount} is too large")
    return int(amount)
