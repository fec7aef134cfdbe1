"""What the owner of a machine says of it in the settings, and what an ensemble asks of a machine beside amounts.

The rest of a :class:`~dms.resources.capability.HardwareCapability` is not said but found: executors, resources, place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dms.resources.capability import KYC, MAX_AMOUNT, HardwareCapability, Library, Price, Time, check
from dms.resources.errors import InvalidResources

WANTED_LIBRARY = r"\s*([^\s<>=!~^]+)\s*(?:(==?|!=|>=?|<=?|~>|~=|\^)\s*(v?\d[0-9A-Za-z.+-]*))?\s*"
"""Such patterns stand in the JSON schema of ensembles as well."""
PRICE = r"\s*\S+\s+\d+(?:\.\d+)?(?:\s+\d+(?:\.\d+)?)?\s*"
PROOF = r"\s*\S+(?:\s+\S+)?\s*"
MAX_HOURS = 24 * 366 * 10
JOB_TYPES = ("batch", "long_running", "single_run")
"""What our allocations are good for; nothing here runs a job again and again by itself."""


def declared(
    *, libraries: Sequence[str] = (), prices: Sequence[str] = (), proofs: Sequence[str] = (), max_hours: int = 0
) -> HardwareCapability:
    """Out of texts: ``openmpi 4.1.6`` or ``openmpi``; ``NTX 0.5`` per hour, or ``NTX 0.5 2`` with a fee per job; ``type
    data``. ``max_hours`` 0: a job may take as long as it likes.

    :raises InvalidResources: a text is not written so.
    """
    capability = HardwareCapability(
        type=JOB_TYPES,
        libraries=tuple(_library(text) for text in libraries),
        price=tuple(_price(text) for text in prices),
        time=Time(units="hours", max_time=max_hours or MAX_AMOUNT),
        kycs=tuple(_proof(text) for text in proofs),
    )
    check(capability)
    return capability


def wanted(
    *, libraries: Sequence[str] = (), prices: Sequence[str] = (), proofs: Sequence[str] = (), max_hours: int = 0
) -> HardwareCapability:
    """The same of a job: ``openmpi >= 4.1`` asks for a version, ``NTX 0.5`` is the most that it pays per hour, and
    ``max_hours`` is how long it takes at most, 0 if that does not matter.

    :raises InvalidResources: a text is not written so.
    """
    capability = HardwareCapability(
        libraries=tuple(_wanted_library(text) for text in libraries),
        price=tuple(_price(text) for text in prices),
        time=Time(units="hours", max_time=max_hours) if max_hours else Time(),
        kycs=tuple(_proof(text) for text in proofs),
    )
    check(capability)
    return capability


def _wanted_library(text: str) -> Library:
    match = re.fullmatch(WANTED_LIBRARY, text)
    if match is None:
        raise InvalidResources(f'invalid library "{text[:80]}"', hint="write it like openmpi >= 4.1, or openmpi")
    return Library(name=match[1], constraint=match[2] or "", version=match[3] or "")


def _library(text: str) -> Library:
    name, version = _words(text, "library", "openmpi 4.1.6", 1, 2)
    return Library(name=name, constraint="=" if version else "", version=version)


def _price(text: str) -> Price:
    currency, per_hour, per_job = _words(text, "price", "NTX 0.5, or NTX 0.5 2 with a fee per job", 2, 3)
    try:
        return Price(currency=currency, currency_per_hour=float(per_hour), total_per_job=float(per_job or 0))
    except ValueError:
        raise InvalidResources(f'invalid price "{text[:80]}"', hint="write it like NTX 0.5") from None


def _proof(text: str) -> KYC:
    type_, data = _words(text, "proof", "iso27001 certificate-77", 1, 2)
    return KYC(type=type_, data=data)


def _words(text: str, what: str, example: str, least: int, most: int) -> list[str]:
    words = text.split()
    if not least <= len(words) <= most:
        raise InvalidResources(f'invalid {what} "{text[:80]}"', hint=f"write it like {example}")
    return [*words, *[""] * (most - len(words))]
