"""Sizes, processors and times as Compose, Kubernetes and Nomad write them. What cannot be read is None."""

from __future__ import annotations

import re

from dms.types.errors import BadInput
from dms.types.units import exact_bytes, exact_duration, parse_duration_ns

MEBI = 2**20
MAX_BYTES = 2**60
MAX_CORES = 4096.0
_DOCKER = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_KUBERNETES = re.compile(r"(\d{1,18}(?:\.\d{1,9})?(?:[eE][+]?\d{1,2})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_FACTORS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    f"{prefix}i": 2 ** (10 * power) for power, prefix in enumerate("KMGTP", start=1)
}


def docker_bytes(text: str) -> int | None:
    """``512m``, ``1.5gb``: powers of 1024."""
    match = _DOCKER.fullmatch(text.strip())
    if match is None:
        return None
    return _bounded(float(match[1]) * 1024 ** "bkmgt".index((match[2] or "b").lower()))


def kubernetes_bytes(text: str) -> int | None:
    """``512Mi``, ``1G``, ``1e9``."""
    amount = kubernetes_amount(text)
    return None if amount is None else _bounded(amount)


def kubernetes_amount(text: str) -> float | None:
    """A quantity: ``500m`` is a half."""
    match = _KUBERNETES.fullmatch(text.strip())
    if match is None:
        return None
    number = float(match[1])
    return number / 1000 if match[2] == "m" else number * _FACTORS.get(match[2] or "", 1)


def mebibytes(text: str) -> int | None:
    """Nomad's ``memory = 256``."""
    number = plain_number(text)
    return None if number is None else _bounded(number * MEBI)


def plain_number(text: str) -> float | None:
    """A number without a unit."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def cores(amount: float | None) -> float | None:
    """Cores with two decimals, at least 0.01."""
    if amount is None or not 0 < amount <= MAX_CORES:
        return None
    return max(round(amount, 2), 0.01)


def size_text(size: int) -> str:
    """Bytes for an ensemble."""
    return exact_bytes(size)


def interval_text(text: str) -> str | None:
    """A time such as ``1m30s``, or seconds without a unit, for an ensemble; None when there is none above zero."""
    try:
        nanoseconds = parse_duration_ns(f"{text.strip()}s" if _NUMBER.fullmatch(text.strip()) else text)
    except BadInput:
        return None
    return exact_duration(nanoseconds) if 0 < nanoseconds < 2**62 else None


def _bounded(amount: float) -> int | None:
    return int(amount) if 1 <= amount <= MAX_BYTES else None
