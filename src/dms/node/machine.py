"""The machine beneath a node: onboarding, resources, hardware (``spec/orchestration.md`` 2.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.allocation.allocation import Allocation
from dms.hardware import HardwareProbe
from dms.node import machine_payloads as p
from dms.node.hosting import Hosting
from dms.node.listing import rfc3339
from dms.node.payloads import Nil
from dms.observe import catalogue
from dms.orchestrator.messages import Reply
from dms.resources.benchmark import described
from dms.resources.benchmarks import Benchmarks
from dms.resources.manager import ResourceManager
from dms.resources.onboarding import Onboarding
from dms.types.errors import DMSError
from dms.types.resources import Resources


class MachineBehaviours:
    """What this machine has, offers, has given and uses; and what it hosts."""

    def __init__(
        self,
        manager: ResourceManager,
        onboarding: Onboarding,
        probe: HardwareProbe,
        hosting: Hosting,
        benchmarks: Benchmarks,
    ) -> None:
        self._manager = manager
        self._onboarding = onboarding
        self._probe = probe
        self._hosting = hosting
        self._benchmarks = benchmarks

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        self._events = actor.events
        table: tuple[tuple[str, Callable[[Message[Any]], Awaitable[object]], Any], ...] = (
            ("onboarding/onboard", self._onboard, p.OnboardRequest),
            ("onboarding/offboard", self._offboard, Nil),
            ("onboarding/status", self._status, Nil),
            ("resources/allocated", self._allocated, Nil),
            ("resources/free", self._free, Nil),
            ("resources/onboarded", self._onboarded, Nil),
            ("hardware/spec", self._spec, Nil),
            ("hardware/usage", self._usage, Nil),
            ("allocations/list", self._allocations, Nil),
            ("allocation/restart", self._restart, p.AllocationRequest),
            ("allocation/stop", self._stop, p.AllocationRequest),
        )
        for name, handler, payload in table:
            error_reply = _resources_error if name.startswith(("resources", "hardware")) else None
            actor.on(f"/dms/node/{name}", handler, payload=payload, error_reply=error_reply)
        actor.on(
            "/dms/node/hardware/benchmark",
            self._benchmark,
            payload=p.BenchmarkRequest,
            error_reply=lambda error: p.BenchmarkReply(ok=False, benchmarks=(), error=error),
        )

    async def _onboard(self, message: Message[p.OnboardRequest]) -> p.OnboardReply:
        request = message.payload
        try:
            await self._onboarding.onboard(request.config.onboarded_resources, gpus=request.gpus, no_gpu=request.no_gpu)
        except DMSError as exc:
            return p.OnboardReply(success=False, error=exc.message, config=self._config())
        offer = self._manager.onboarded or Resources()
        self._events.emit(
            catalogue.MACHINE_ONBOARDED,
            cores=offer.cpu.cores,
            ram_bytes=offer.ram.size,
            disk_bytes=offer.disk.size,
            gpus=len(offer.gpus),
        )
        return p.OnboardReply(success=True, error="", config=self._config())

    async def _offboard(self, _message: Message[Any]) -> p.OffboardReply:
        try:
            await self._onboarding.offboard()
        except DMSError as exc:
            return p.OffboardReply(success=False, error=exc.message)
        self._events.emit(catalogue.MACHINE_OFFBOARDED)
        return p.OffboardReply(success=True, error="")

    async def _status(self, _message: Message[Any]) -> p.OnboardingStatus:
        return p.OnboardingStatus(onboarded=self._onboarding.is_onboarded, error="")

    async def _allocated(self, _message: Message[Any]) -> p.ResourcesReply:
        return p.ResourcesReply(ok=True, resources=self._manager.allocated())

    async def _free(self, _message: Message[Any]) -> p.ResourcesReply:
        return p.ResourcesReply(ok=True, resources=self._manager.free())

    async def _onboarded(self, _message: Message[Any]) -> p.ResourcesReply:
        offered = self._manager.onboarded
        if offered is None:
            return p.ResourcesReply(ok=False, resources=Resources(), error="machine is not onboarded")
        return p.ResourcesReply(ok=True, resources=offered)

    async def _spec(self, _message: Message[Any]) -> p.ResourcesReply:
        found = await self._probe.machine()
        return p.ResourcesReply(ok=True, resources=described(found, await self._benchmarks.latest()))

    async def _usage(self, _message: Message[Any]) -> p.ResourcesReply:
        return p.ResourcesReply(ok=True, resources=await self._probe.usage())

    async def _benchmark(self, message: Message[p.BenchmarkRequest]) -> p.BenchmarkReply:
        if message.payload.run:
            await self._benchmarks.run()
        return p.BenchmarkReply(ok=True, benchmarks=await self._benchmarks.history())

    async def _allocations(self, _message: Message[Any]) -> p.HostedAllocations:
        hosted = []
        for allocation in self._hosting:
            spec = allocation.spec
            hosted.append(
                p.HostedAllocation(
                    id=spec.id,
                    type=spec.type,
                    resources=spec.resources,
                    orchestrator=spec.orchestrator.addr.host,
                    status=allocation.view.state.value,
                    executor=spec.executor,
                    execution_id=allocation.execution_id,
                    using_ports=tuple(int(port) for port in spec.ports),
                    created_at=rfc3339(spec.created_ns),
                    started_at=rfc3339(allocation.started_ns),
                )
            )
        return p.HostedAllocations(allocations=tuple(hosted))

    async def _restart(self, message: Message[p.AllocationRequest]) -> Reply:
        return await self._with(message.payload.allocation_id, lambda allocation: allocation.restart())

    async def _stop(self, message: Message[p.AllocationRequest]) -> Reply:
        return await self._with(message.payload.allocation_id, lambda allocation: allocation.stop())

    async def _with(self, id_: str, act: Callable[[Allocation], Awaitable[None]]) -> Reply:
        """What the owner of the machine does to a job on it; whoever deployed it is told, and may do something about it."""
        found = next((allocation for allocation in self._hosting if allocation.spec.id == id_), None)
        if found is None:
            return Reply(ok=False, error="allocation not found")
        try:
            await act(found)
        except DMSError as exc:
            return Reply(ok=False, error=exc.message)
        return Reply(ok=True)

    def _config(self) -> p.OnboardingConfig:
        info = self._onboarding.info()
        return p.OnboardingConfig(
            is_onboarded=info.is_onboarded, onboarded_resources=info.onboarded_resources or Resources()
        )


def _resources_error(error: str) -> p.ResourcesReply:
    return p.ResourcesReply(ok=False, resources=Resources(), error=error)
