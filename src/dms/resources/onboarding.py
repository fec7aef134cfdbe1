"""Onboarding: how much of this machine is offered, and whether it can be (``spec/execution.md`` 10)."""

from __future__ import annotations

import msgspec

from dms.hardware import HardwareProbe
from dms.observe import get_logger
from dms.resources.arithmetic import check, hundredths, normalized
from dms.resources.benchmark import described
from dms.resources.benchmarks import Benchmarks
from dms.resources.errors import CapacityNotMet, HighUsage, InvalidResources, NotOnboarded, ResourceError
from dms.resources.gpus import position
from dms.resources.manager import ResourceManager
from dms.resources.offer import GB, GHZ, gpus_of, shortfalls
from dms.store import EntityRepository, Store
from dms.store.schema import onboarding_config
from dms.types.gojson import Wire
from dms.types.resources import GPU, Resources

log = get_logger(__name__)

RAM_SHARE = (0.1, 0.9)
"""The least and the most of the machine's memory, and of each GPU's, that may be offered."""


class OnboardingConfig(Wire):
    """Whether this machine is onboarded, and with what; the resources are the manager's and not stored here."""

    is_onboarded: bool
    onboarded_resources: Resources | None = None


class Onboarding:
    """Offers a part of the machine, or takes it back. The manager must be loaded before.

    ``check_cpu_usage`` off: processors that are busy at the moment do not stand against onboarding, as several nodes
    on one machine would otherwise stand in each other's way. ``benchmarks`` tell how fast the disk is.
    """

    def __init__(
        self,
        manager: ResourceManager,
        probe: HardwareProbe,
        store: Store,
        *,
        check_cpu_usage: bool = True,
        benchmarks: Benchmarks | None = None,
    ) -> None:
        self._manager = manager
        self._probe = probe
        self._check_cpu_usage = check_cpu_usage
        self._benchmarks = benchmarks
        self._config = EntityRepository(store, onboarding_config, OnboardingConfig)

    async def onboard(self, wanted: Resources, *, gpus: str = "", no_gpu: bool = False) -> OnboardingConfig:
        """Offer ``wanted``; again: offer that instead. What is not an amount is copied from the machine.

        ``gpus``: a text such as ``0:4,1:8`` that tells the GPUs in place of those of ``wanted``; ``no_gpu``: offer none.

        :raises InvalidResources: the text is not written like that, or both are given.
        :raises CapacityNotMet: it is too much or too little of this machine.
        :raises HighUsage: others use too much of it now.
        :raises DemandTooHigh: more than that is allocated already.
        """
        check(wanted)
        if gpus and no_gpu:
            raise InvalidResources("GPUs are offered and withheld at once", hint="give either the GPUs or no GPU")
        machine = await self._probe.machine()
        if gpus or no_gpu:
            wanted = msgspec.structs.replace(wanted, gpus=gpus_of(gpus, machine.gpus))
        if self._benchmarks is not None:
            machine = described(machine, await self._benchmarks.latest())
        offered = _described(normalized(wanted), machine)
        check_capacity(machine, offered)
        await self._check_usage(machine, offered)
        await self._manager.update_onboarded(
            offered, also=lambda session: self._config.save_on(session, OnboardingConfig(is_onboarded=True))
        )
        log.info(
            "onboarded",
            cores=offered.cpu.cores,
            ram=offered.ram.size,
            disk=offered.disk.size,
            gpus=len(offered.gpus),
            below_minimum=list(shortfalls(offered)),
        )
        return self.info()

    async def offboard(self) -> None:
        """Offer nothing any more.

        :raises NotOnboarded: nothing is offered.
        :raises DemandTooHigh: allocations run here.
        """
        if not self.is_onboarded:
            raise NotOnboarded
        await self._manager.update_onboarded(None, also=self._config.clear_on)
        log.info("offboarded")

    @property
    def is_onboarded(self) -> bool:
        """Whether this machine offers anything."""
        return self._manager.onboarded is not None

    def info(self) -> OnboardingConfig:
        """Whether it is onboarded, and with what."""
        return OnboardingConfig(is_onboarded=self.is_onboarded, onboarded_resources=self._manager.onboarded)

    async def restore(self) -> ResourceError | None:
        """At start: see whether the machine still has what it offers, and offboard it if not.

        Where allocations run the problem is only logged, and so is a GPU that is not there: its driver may come later,
        and until then nobody is promised any of it. Answers with the problem.
        """
        offered = self._manager.onboarded
        if offered is None:
            return None
        machine = await self._probe.machine()
        absent = [gpu for gpu in offered.gpus if position(machine.gpus, gpu) is None]
        for gpu in absent:
            log.warning("onboarded_gpu_is_absent", index=gpu.index, model=gpu.model, uuid=gpu.uuid)
        there = msgspec.structs.replace(offered, gpus=tuple(gpu for gpu in offered.gpus if gpu not in absent))
        try:
            check_capacity(machine, there)
        except ResourceError as exc:
            log.warning("onboarding_not_met", reason=str(exc), allocations=len(self._manager.allocations))
            if not self._manager.allocations:
                await self._manager.sweep_expired()
                if not self._manager.commitments:
                    await self.offboard()
            return exc
        if absent:
            return CapacityNotMet(f"GPU {', '.join(str(gpu.index) for gpu in absent)} does not exist on this machine")
        return None

    async def report_usage(self) -> HighUsage | None:
        """Log when others leave less of this machine than it offers; beside the start, because looking takes a second."""
        offered = self._manager.onboarded
        if offered is None:
            return None
        try:
            await self._check_usage(await self._probe.machine(), offered)
        except HighUsage as exc:
            log.warning("onboarding_high_usage", reason=str(exc))
            return exc
        return None

    async def _check_usage(self, machine: Resources, wanted: Resources) -> None:
        used = await self._probe.usage()
        check_usage(machine, used, wanted, cpu=self._check_cpu_usage)


def check_capacity(machine: Resources, wanted: Resources) -> None:
    """Refuse more or less than the rules allow to offer of this machine.

    :raises CapacityNotMet: with the bounds.
    :raises InvalidResources: a GPU is offered twice.
    """
    cores = machine.cpu.cores
    if not min(100, hundredths(cores)) <= hundredths(wanted.cpu.cores) <= hundredths(cores):
        raise CapacityNotMet(f"cores must be between 1 and {cores:g}", hint=f"got {wanted.cpu.cores:g}")
    low, high = (share * machine.ram.size for share in RAM_SHARE)
    if not low <= wanted.ram.size <= high:
        raise CapacityNotMet(
            f"expected RAM to be between {low / GB:.2f} GB and {high / GB:.2f} GB, got {wanted.ram.size / GB:.2f} GB"
        )
    if not 0 < wanted.disk.size <= machine.disk.size:
        raise CapacityNotMet(
            f"expected disk to be above 0 GB and at most {machine.disk.size / GB:.2f} GB, "
            f"got {wanted.disk.size / GB:.2f} GB",
            hint="the file system that holds general.work_dir counts",
        )
    places = [_check_gpu(machine, gpu) for gpu in wanted.gpus]
    if len(set(places)) < len(places):
        raise InvalidResources("a GPU is offered twice")


def check_usage(machine: Resources, used: Resources, wanted: Resources, *, cpu: bool = True) -> None:
    """Refuse more than others leave of this machine at the moment.

    :raises HighUsage: with what is free.
    """
    free_hz = max(machine.cpu.cores - used.cpu.cores, 0.0) * machine.cpu.clock_speed
    wanted_hz = wanted.cpu.cores * wanted.cpu.clock_speed
    if cpu and wanted_hz > free_hz * (1 + 1e-9):
        raise HighUsage(
            f"not enough free compute available on the system: {free_hz / GHZ:.2f} GHz, wanted {wanted_hz / GHZ:.2f} GHz"
        )
    for what, free, want in (
        ("RAM", machine.ram.size - used.ram.size, wanted.ram.size),
        ("disk", machine.disk.size - used.disk.size, wanted.disk.size),
    ):
        if want > free:
            raise HighUsage(_not_enough(what, free, want))
    for gpu in wanted.gpus:
        place = position(machine.gpus, gpu)
        in_use = position(used.gpus, gpu)
        free = (machine.gpus[place].vram if place is not None else 0) - (
            used.gpus[in_use].vram if in_use is not None else 0
        )
        if gpu.vram > free:
            raise HighUsage(_not_enough("VRAM", free, gpu.vram))


def _not_enough(what: str, free: int, want: int) -> str:
    return f"not enough free {what} available on the system: {max(free, 0) / GB:.2f} GB, wanted {want / GB:.2f} GB"


def _check_gpu(machine: Resources, wanted: GPU) -> int:
    place = position(machine.gpus, wanted)
    if place is None:
        raise CapacityNotMet(f"GPU {wanted.index} does not exist on this machine")
    low, high = (share * machine.gpus[place].vram for share in RAM_SHARE)
    if not low <= wanted.vram <= high:
        raise CapacityNotMet(
            f"expected GPU {wanted.index} VRAM to be between {low / GB:.2f} GB and {high / GB:.2f} GB, "
            f"got {wanted.vram / GB:.2f} GB"
        )
    return place


def _described(wanted: Resources, machine: Resources) -> Resources:
    """The wanted amounts of this machine's kinds: its clock, model, architecture, GPUs."""
    gpus = []
    for gpu in wanted.gpus:
        place = position(machine.gpus, gpu)
        gpus.append(gpu if place is None else msgspec.structs.replace(machine.gpus[place], vram=gpu.vram))
    return Resources(
        cpu=msgspec.structs.replace(machine.cpu, cores=wanted.cpu.cores),
        gpus=tuple(gpus),
        ram=msgspec.structs.replace(machine.ram, size=wanted.ram.size),
        disk=msgspec.structs.replace(machine.disk, size=wanted.disk.size),
    )
