"""Adding and subtracting capabilities (``spec/execution.md`` 8.1): values never change, amounts are exact.

Amounts (resources, storage, time) are summed, and taking more than there is fails as a whole. Everything else is a set:
adding unites, subtracting drops. So ``subtract(add(a, b), b)`` is ``a`` as far as amounts go and where the sets of ``a`` and
``b`` have nothing in common.
"""

from __future__ import annotations

import msgspec

from dms.resources import arithmetic
from dms.resources.capability import (
    SECONDS,
    Connectivity,
    HardwareCapability,
    StorageUnit,
    Time,
    normalized,
    ordered,
    units,
)
from dms.resources.errors import Underflow


def add(left: HardwareCapability, right: HardwareCapability) -> HardwareCapability:
    """Both together."""
    return HardwareCapability(
        executor=ordered((*left.executor, *right.executor)),
        type=ordered((*left.type, *right.type)),
        resources=arithmetic.add(left.resources, right.resources),
        libraries=ordered((*left.libraries, *right.libraries)),
        locality=ordered((*left.locality, *right.locality)),
        storage=units((*left.storage, *right.storage)),
        connectivity=Connectivity(
            ports=tuple(sorted({*left.connectivity.ports, *right.connectivity.ports})),
            vpn=left.connectivity.vpn or right.connectivity.vpn,
        ),
        price=ordered((*left.price, *right.price)),
        time=_add_time(left.time, right.time),
        kycs=ordered((*left.kycs, *right.kycs)),
    )


def subtract(left: HardwareCapability, right: HardwareCapability) -> HardwareCapability:
    """``left`` without ``right``; what of a set is not there cannot be missed.

    :raises Underflow: ``right`` has more of some amount.
    """
    return HardwareCapability(
        executor=ordered(set(left.executor) - set(right.executor)),
        type=ordered(set(left.type) - set(right.type)),
        resources=arithmetic.subtract(left.resources, right.resources),
        libraries=ordered(set(left.libraries) - set(right.libraries)),
        locality=ordered(set(left.locality) - set(right.locality)),
        storage=_subtract_storage(left.storage, right.storage),
        connectivity=Connectivity(
            ports=tuple(sorted(set(left.connectivity.ports) - set(right.connectivity.ports))),
            vpn=left.connectivity.vpn and not right.connectivity.vpn,
        ),
        price=ordered(set(left.price) - set(right.price)),
        time=_subtract_time(left.time, right.time),
        kycs=ordered(set(left.kycs) - set(right.kycs)),
    )


def reserve(offer: HardwareCapability, wanted: HardwareCapability) -> HardwareCapability:
    """What an offer still has while a job runs that wants this: only what a job uses up is gone.

    Any GPU that fits serves one that is wanted. Executors, libraries, places and prices serve the next job too.

    :raises Underflow: it cannot be served.
    """
    return msgspec.structs.replace(
        normalized(offer),
        resources=arithmetic.take(offer.resources, wanted.resources),
        storage=_subtract_storage(offer.storage, _served_by(offer.storage, wanted.storage)),
    )


def _served_by(have: tuple[StorageUnit, ...], wanted: tuple[StorageUnit, ...]) -> tuple[StorageUnit, ...]:
    """The very devices that serve requirements of some type and at least some size, each by the smallest that will do.

    :raises Underflow: too few.
    """
    left = {(unit.size, unit.type): unit.amount for unit in units(have)}
    served: list[StorageUnit] = []
    # A requirement of no certain type can be served by more devices, so it chooses last; larger ones choose first.
    for want in sorted(units(wanted), key=lambda unit: (not unit.type, -unit.size)):
        missing = want.amount
        for size, kind in sorted(left):
            count = min(missing, left[size, kind])
            if count and size >= want.size and want.type in ("", kind):
                left[size, kind] -= count
                missing -= count
                served.append(StorageUnit(type=kind, size=size, amount=count))
        if missing:
            raise Underflow(f"error subtracting storage: {missing} devices of {want.type or 'any type'} too few")
    return tuple(served)


def _subtract_storage(left: tuple[StorageUnit, ...], right: tuple[StorageUnit, ...]) -> tuple[StorageUnit, ...]:
    amounts = {(unit.type, unit.size): unit.amount for unit in units(left)}
    for unit in units(right):
        have = amounts.get((unit.type, unit.size), 0)
        if unit.amount > have:
            raise Underflow(f"error subtracting storage: amount: underflow, cannot subtract {unit.amount} from {have}")
        amounts[unit.type, unit.size] = have - unit.amount
    return units(StorageUnit(type=t, size=s, amount=n) for (t, s), n in amounts.items())


def _add_time(left: Time, right: Time) -> Time:
    return _in_common(left, right, left.seconds + right.seconds)


def _subtract_time(left: Time, right: Time) -> Time:
    if right.seconds > left.seconds:
        raise Underflow(f"error subtracting time: underflow, cannot subtract {right.seconds} s from {left.seconds} s")
    return _in_common(left, right, left.seconds - right.seconds)


def _in_common(left: Time, right: Time, seconds: int) -> Time:
    """In the largest unit of the two that says it exactly; the preference is that of the first that has one."""
    candidates = sorted({t.units for t in (left, right) if t.units in SECONDS}, key=lambda unit: -SECONDS[unit])
    exact = next((unit for unit in candidates if seconds % SECONDS[unit] == 0), "seconds" if seconds else "")
    return Time(
        units=exact,
        max_time=seconds // SECONDS[exact] if exact else 0,
        preference=left.preference or right.preference,
    )
