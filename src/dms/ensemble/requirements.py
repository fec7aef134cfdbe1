"""What one node of an ensemble asks of a machine (``spec/ensemble.md`` 2, ``spec/orchestration.md`` 3.1).

Everything here takes a valid configuration: :func:`~dms.ensemble.validation.validate_config` found no problem.
"""

from __future__ import annotations

from collections.abc import Iterable

from dms.ensemble.config import AllocationConfig, EnsembleConfig, LocationConstraints
from dms.resources.capability import HardwareCapability
from dms.resources.declared import wanted
from dms.types.resources import CPU, GPU, RAM, Disk, Location, Resources


def node_resources(config: EnsembleConfig, node: str) -> Resources:
    """The sum over the allocations of the node.

    Cores (to two decimals), memory, storage add up; graphics processors are listed one after another; of clocks and
    speeds, which several workloads share, the highest counts.
    """
    parts = [a.resources for a in _allocations(config, node)]
    cpus, rams, disks = [p.cpu for p in parts], [p.ram for p in parts], [p.disk for p in parts]
    gpus: tuple[GPU, ...] = tuple(gpu for p in parts for gpu in p.gpus)
    return Resources(
        cpu=CPU(
            cores=sum(round(c.cores * 100) for c in cpus) / 100,
            clock_speed=max((c.clock_speed for c in cpus), default=0.0),
            model=_first(c.model for c in cpus),
            vendor=_first(c.vendor for c in cpus),
            threads=sum(c.threads for c in cpus),
            architecture=_first(c.architecture for c in cpus),
            cache_size=max((c.cache_size for c in cpus), default=0),
        ),
        gpus=gpus,
        ram=RAM(
            size=sum(r.size for r in rams),
            clock_speed=max((r.clock_speed for r in rams), default=0),
            type=_first(r.type for r in rams),
        ),
        disk=Disk(
            size=sum(d.size for d in disks),
            model=_first(d.model for d in disks),
            vendor=_first(d.vendor for d in disks),
            type=_first(d.type for d in disks),
            interface=_first(d.interface for d in disks),
            read_speed=max((d.read_speed for d in disks), default=0),
            write_speed=max((d.write_speed for d in disks), default=0),
        ),
    )


def node_parts(config: EnsembleConfig, node: str) -> dict[str, Resources]:
    """What each allocation of the node wants, where any wants graphics processors: those of one allocation are different
    devices, which a sum cannot say. Otherwise nothing, the sum says it all."""
    names = dict.fromkeys(config.v1.nodes[node].allocations)
    parts = {name: config.v1.allocations[name].resources for name in names}
    return parts if any(part.gpus for part in parts.values()) else {}


def node_capability(config: EnsembleConfig, node: str) -> HardwareCapability | None:
    """What the node requires beside amounts; nothing if it requires nothing.

    :raises InvalidResources: a requirement is not written as it must be.
    """
    asked = config.v1.nodes[node].requires
    if asked is None:
        return None
    return wanted(libraries=asked.libraries, prices=asked.prices, proofs=asked.proofs, max_hours=asked.max_hours)


def node_executors(config: EnsembleConfig, node: str) -> tuple[str, ...]:
    """The executors that the allocations of the node need, each once, in the order of their first use."""
    return tuple(dict.fromkeys(a.executor for a in _allocations(config, node)))


def node_ports(config: EnsembleConfig, node: str) -> tuple[tuple[int, ...], int]:
    """The public ports that the node asks for by number, and how many more the provider shall choose."""
    ports = config.v1.nodes[node].ports
    return tuple(p.public for p in ports if p.public), sum(1 for p in ports if not p.public)


def node_needs_privilege(config: EnsembleConfig, node: str) -> bool:
    """Whether some allocation of the node asks for a privileged container."""
    return any(a.execution.params.get("privileged") is True for a in _allocations(config, node))


def location_matches(constraints: LocationConstraints | None, place: Location) -> bool:
    """Whether a place satisfies both lists: some ``accept`` entry matches, if there is any, and no ``reject`` entry.

    The members that an entry leaves empty match anything; text is compared ignoring case.
    """
    if constraints is None:
        return True
    if constraints.accept and not any(_within(entry, place) for entry in constraints.accept):
        return False
    return not any(_within(entry, place) for entry in constraints.reject)


def _within(entry: Location, place: Location) -> bool:
    pairs = (
        (entry.continent, place.continent),
        (entry.country, place.country),
        (entry.city, place.city),
        (entry.isp, place.isp),
    )
    if any(wanted and wanted.casefold() != found.casefold() for wanted, found in pairs):
        return False
    return not entry.asn or entry.asn == place.asn


def _allocations(config: EnsembleConfig, node: str) -> list[AllocationConfig]:
    return [config.v1.allocations[name] for name in dict.fromkeys(config.v1.nodes[node].allocations)]


def _first(values: Iterable[str]) -> str:
    return next((v for v in values if v), "")
