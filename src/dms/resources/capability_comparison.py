"""Does an offer meet a requirement, part by part, and if not, why not (``spec/execution.md`` 8.2, 8.3)?

Each part is ordered by one question: does the left one meet the right one? Both meet each other: *equal*; only the left
one the right: *better*; only the right one the left: *worse*; neither: *none*. So what is equal satisfies, and whatever
satisfies one that satisfies a third satisfies the third, offers telling exact versions (``=``). The parts together are
the *and* of :class:`~dms.resources.comparison.Comparison`.

Stricter than the original: a part that an offer leaves out (a price, a time, a proof) meets no requirement for it,
instead of any; all places and proofs asked for must be there. Prices are alternatives: one that both name is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_

from dms.resources import comparison
from dms.resources.capability import HardwareCapability, Library, Price
from dms.resources.capability_arithmetic import reserve
from dms.resources.comparison import Comparison, Unmet
from dms.resources.errors import Underflow
from dms.resources.versions import Version

Meets = Callable[[HardwareCapability, HardwareCapability], str]
"""Empty where the first meets the second, else why it does not."""


def compare(offer: HardwareCapability, wanted: HardwareCapability) -> Comparison:
    """All parts together.

    :raises InvalidResources: a version, constraint or unit of time that is none.
    """
    return reduce(and_, compare_parts(offer, wanted).values(), Comparison.EQUAL)


def compare_parts(offer: HardwareCapability, wanted: HardwareCapability) -> dict[str, Comparison]:
    """Each part by its name (:data:`PARTS`)."""
    return {part: _order(not meets(offer, wanted), not meets(wanted, offer)) for part, meets in PARTS.items()}


def unmet(offer: HardwareCapability, wanted: HardwareCapability) -> tuple[Unmet, ...]:
    """Everything that the offer lacks; nothing: it will do."""
    lacking = [*comparison.unmet(offer.resources, wanted.resources)]
    lacking += [
        Unmet(part, reason) for part, meets in PARTS.items() if part != "resources" and (reason := meets(offer, wanted))
    ]
    return tuple(lacking)


def _order(forward: bool, backward: bool) -> Comparison:  # noqa: FBT001 (a truth table)
    if forward:
        return Comparison.EQUAL if backward else Comparison.BETTER
    return Comparison.WORSE if backward else Comparison.NONE


def _executors(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    return _missing("executor", set(wanted.executor) - set(offer.executor))


def _job_types(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    return _missing("jobs of type", set(wanted.type) - set(offer.type))


def _resources(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    return "; ".join(item.reason for item in comparison.unmet(offer.resources, wanted.resources))


def _libraries(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    lacking = [library for library in wanted.libraries if not any(_is(have, library) for have in offer.libraries)]
    return _missing("library", {f"{lib.name} {lib.constraint}{lib.version}".strip() for lib in lacking})


def _is(have: Library, wanted: Library) -> bool:
    if have.name != wanted.name:
        return False
    if not wanted.version:
        return True
    return bool(have.version) and Version(have.version).satisfies(wanted.constraint, Version(wanted.version))


def _localities(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    return _missing("place", {f"{place.kind} {place.name}" for place in set(wanted.locality) - set(offer.locality)})


def _storage(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    try:
        reserve(HardwareCapability(storage=offer.storage), HardwareCapability(storage=wanted.storage))
    except Underflow as exc:
        return exc.message.removeprefix("error subtracting storage: ")
    return ""


def _connectivity(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    ports = set(wanted.connectivity.ports) - set(offer.connectivity.ports)
    if wanted.connectivity.vpn and not offer.connectivity.vpn:
        return "no private network"
    return _missing("port", {str(port) for port in ports})


def _price(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    if not wanted.price or any(_is_cheaper(asked, limit) for asked in offer.price for limit in wanted.price):
        return ""
    currencies = {asked.currency for asked in offer.price} & {limit.currency for limit in wanted.price}
    if currencies:
        return f"too expensive in {', '.join(sorted(currencies))}"
    return _missing("price in", {limit.currency for limit in wanted.price})


def _is_cheaper(asked: Price, limit: Price) -> bool:
    return (
        asked.currency == limit.currency
        and asked.currency_per_hour <= limit.currency_per_hour
        and asked.total_per_job <= limit.total_per_job
    )


def _time(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    if offer.time.seconds >= wanted.time.seconds:
        return ""
    return f"{wanted.time.seconds} s wanted, {offer.time.seconds} s offered"


def _kycs(offer: HardwareCapability, wanted: HardwareCapability) -> str:
    lacking = [
        proof
        for proof in wanted.kycs
        if not any(have.type == proof.type and proof.data in ("", have.data) for have in offer.kycs)
    ]
    return _missing("proof", {f"{proof.type} {proof.data}".strip() for proof in lacking})


def _missing(what: str, names: set[str]) -> str:
    return f"no {what} {', '.join(sorted(names))}" if names else ""


PARTS: dict[str, Meets] = {
    "executor": _executors,
    "type": _job_types,
    "resources": _resources,
    "libraries": _libraries,
    "locality": _localities,
    "storage": _storage,
    "connectivity": _connectivity,
    "price": _price,
    "time": _time,
    "KYCs": _kycs,
}
"""The parts by their names in JSON, in the order of the structure."""
