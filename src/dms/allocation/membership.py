"""The place of an allocation in its private network: what its backend is told of it, and what becomes of that."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from dms.allocation.networks import Networks
from dms.allocation.spec import AllocationSpec
from dms.executor.protocol import PROTOCOLS, ExecutionRequest, ExecutionStatus, Executor
from dms.subnet.errors import KernelRefused


class Membership:
    """Of one allocation. ``unjoined`` is told why a workload that needs an address of its own runs without."""

    def __init__(self, spec: AllocationSpec, networks: Networks | None, unjoined: Callable[[str], None]) -> None:
        self._spec, self._maybe_networks, self._unjoined = spec, networks, unjoined
        self.is_known = False
        """Whether it has joined since the last start, or why it could not has been told."""

    @property
    def _networks(self) -> Networks:
        assert self._maybe_networks is not None
        return self._maybe_networks

    def offered(self, request: ExecutionRequest) -> ExecutionRequest:
        """The request, with what there is for this allocation now."""
        request = replace(request, must_join=self._spec.needs_network)
        if self._maybe_networks is None:
            return request
        networks, its = self._networks, (self._spec.ensemble_id, self._spec.id)
        gateway = networks.gateway_for(*its)
        return replace(
            request,
            gateway_ip=gateway,
            join=self._join if gateway else None,
            member=networks.member_for(*its),
            unjoined=self.tell if gateway else None,
            proxy=self._proxy if networks.has_proxy(*its) else None,
        )

    def check_possible(self, request: ExecutionRequest) -> None:
        """Before a start.

        :raises KernelRefused: it needs an address of its own, and there is none for it.
        """
        if request.must_join and request.join is None:
            lacks = self._networks.lacks if self._maybe_networks is not None else ""
            raise KernelRefused(f"no private address: {lacks or 'none was planned for it'}")

    async def check_joined(self, request: ExecutionRequest, executor: Executor) -> None:
        """Whatever the backend made of :attr:`~ExecutionRequest.join`; one that is still fetching an image has not asked yet."""
        if request.join is None or self.is_known:
            return
        if await executor.status(request.execution_id) is not ExecutionStatus.RUNNING:
            return
        self.tell(f"the executor {self._spec.executor} gives none")

    def tell(self, reason: str) -> None:
        """It should have an address, and has none."""
        self.is_known = True
        self._networks.not_joined(self._spec.id, reason)
        if self._spec.needs_network:
            self._unjoined(reason)

    async def _join(self, namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
        await self._networks.join(
            self._spec.ensemble_id,
            self._spec.id,
            namespace,
            self._spec.port_pairs(),
            behind=behind,
            published=published,
        )
        self.is_known = True

    async def _proxy(self, address: str, port: int) -> tuple[str, ...]:
        return await self._networks.open_proxy(self._spec.ensemble_id, self._spec.id, address, port)
