"""Everything that a machine can offer and a job can ask for, in one value (``spec/execution.md`` 8.4).

As an offer it says what is there; as a requirement what must be there at least, where an empty part asks for nothing.
Parts that are sets are kept in order and without repetitions by :func:`normalized`, so that equal ones are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from dms.resources import arithmetic
from dms.resources.errors import InvalidResources
from dms.resources.versions import CONSTRAINTS, Version
from dms.types.gojson import Wire
from dms.types.resources import Resources

JOB_TYPES = ("batch", "single_run", "recurring", "long_running")
MAX_ENTRIES = 1024
MAX_AMOUNT = 1 << 62
SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}

W = TypeVar("W", bound=Wire)


class Library(Wire):
    """Software of a certain version; as a requirement, of one that fits the ``constraint``."""

    name: str
    constraint: str = ""
    version: str = ""
    """Empty: not known; as a requirement, any."""


class Locality(Wire):
    """A place of some kind, such as ``country`` and ``DE``."""

    kind: str
    name: str


class StorageUnit(Wire):
    """So many devices of at least this size."""

    type: str
    """``ssd`` or ``hdd``; as a requirement, empty for any."""
    size: int = 0
    amount: int = 1


class Connectivity(Wire):
    """Ports that can be reached, and whether through a private network."""

    ports: tuple[int, ...] = ()
    vpn: bool = False


class Price(Wire):
    """What an offer costs, or the most that a requirement pays; several are alternatives."""

    currency: str
    currency_per_hour: float = 0.0
    total_per_job: float = 0.0
    preference: int = 0
    """How much the price weighs when offers are ranked."""


class Time(Wire):
    """How long an offer lasts, or how long a job takes at most."""

    units: str = ""
    max_time: int = 0
    preference: int = 0
    """How much the time weighs when offers are ranked."""

    @property
    def seconds(self) -> int:
        """The same in seconds.

        :raises InvalidResources: the unit is unknown.
        """
        if not self.max_time:
            return 0
        try:
            return self.max_time * SECONDS[self.units]
        except KeyError:
            raise InvalidResources(
                f'invalid unit of time "{self.units[:20]}"', hint=f"use {', '.join(SECONDS)}"
            ) from None


class KYC(Wire):
    """A proof of who runs the machine."""

    type: str
    data: str = ""
    """As a requirement, empty for any."""


class HardwareCapability(Wire):
    """The whole: what runs there, on what, where, how it is reached, and for how much."""

    executor: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    """Types of jobs: :data:`JOB_TYPES`."""
    resources: Resources = msgspec.field(default_factory=Resources)
    libraries: tuple[Library, ...] = ()
    locality: tuple[Locality, ...] = ()
    storage: tuple[StorageUnit, ...] = ()
    connectivity: Connectivity = msgspec.field(default_factory=Connectivity)
    price: tuple[Price, ...] = ()
    time: Time = msgspec.field(default_factory=Time)
    kycs: tuple[KYC, ...] = msgspec.field(name="KYCs", default=())


def check(capability: HardwareCapability) -> None:
    """Refuse what cannot be meant: amounts that are none, versions and units that nobody knows, endless lists.

    :raises InvalidResources: and names it.
    """
    arithmetic.check(capability.resources)
    lists: tuple[tuple[object, ...], ...] = (
        capability.executor,
        capability.type,
        capability.libraries,
        capability.locality,
        capability.storage,
        capability.connectivity.ports,
        capability.price,
        capability.kycs,
    )
    if any(len(entries) > MAX_ENTRIES for entries in lists):
        raise InvalidResources(f"invalid capability: a list of more than {MAX_ENTRIES} entries")
    for library in capability.libraries:
        if library.version:
            Version(library.version)
        if library.constraint.strip() not in CONSTRAINTS:
            raise InvalidResources(f'invalid constraint "{library.constraint[:20]}"')
    for unit in capability.storage:
        if not (0 <= unit.size <= MAX_AMOUNT and 0 <= unit.amount <= MAX_AMOUNT):
            raise InvalidResources(f"invalid capability: {unit.amount} storage devices of {unit.size} bytes")
    for port in capability.connectivity.ports:
        if not 0 < port < 65536:
            raise InvalidResources(f"invalid capability: port {port}")
    for price in capability.price:
        for amount in (price.currency_per_hour, price.total_per_job):
            if not (math.isfinite(amount) and amount >= 0):
                raise InvalidResources(f"invalid capability: a price of {amount} {price.currency[:20]}")
    if not 0 <= capability.time.max_time <= MAX_AMOUNT:
        raise InvalidResources(f"invalid capability: a time of {capability.time.max_time}")
    _ = capability.time.seconds  # the unit is known
    if any(weight < 0 for weight in (capability.time.preference, *(p.preference for p in capability.price))):
        raise InvalidResources("invalid capability: a negative preference")


def normalized(capability: HardwareCapability) -> HardwareCapability:
    """The same with every set in order and free of repetitions, storage counted by kind, cores as they are counted."""
    return msgspec.structs.replace(
        capability,
        executor=ordered(capability.executor),
        type=ordered(capability.type),
        resources=arithmetic.normalized(capability.resources),
        libraries=ordered(capability.libraries),
        locality=ordered(capability.locality),
        storage=units(capability.storage),
        connectivity=msgspec.structs.replace(
            capability.connectivity, ports=tuple(sorted(set(capability.connectivity.ports)))
        ),
        price=ordered(capability.price),
        kycs=ordered(capability.kycs),
    )


def ordered(entries: Iterable[Any]) -> tuple[Any, ...]:  # texts or structures, all of one kind
    """A set as a tuple that is the same for equal sets."""
    return tuple(
        sorted(set(entries), key=lambda entry: entry if isinstance(entry, str) else msgspec.structs.astuple(entry))
    )


def units(storage: Iterable[StorageUnit]) -> tuple[StorageUnit, ...]:
    """Devices of one type and size counted together; none of them are left out."""
    amounts: dict[tuple[str, int], int] = {}
    for unit in storage:
        amounts[unit.type, unit.size] = amounts.get((unit.type, unit.size), 0) + unit.amount
    return tuple(StorageUnit(type=t, size=s, amount=n) for (t, s), n in sorted(amounts.items()) if n)
