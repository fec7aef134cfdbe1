"""What is demanded of a deployment that runs: a restart, its end, another version. Each returns once it is on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.errors import DeploymentNotRunning, NotAllocated, NoUpdate, UpdateRefused
from dms.orchestrator.inbox import Inbox
from dms.orchestrator.lifecycle.events import RestartRequested, ShutdownRequested, UpdateCancelled, UpdateRequested
from dms.orchestrator.lifecycle.recovery import can_restart
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.updating.state import Version
from dms.orchestrator.updating.versions import check_updatable


class Orders:
    """Those of one deployment. They are refused here as far as that can be told before they are taken."""

    def __init__(self, state: Callable[[], DeploymentState], inbox: Inbox, now_ns: Callable[[], int]) -> None:
        self._state, self._inbox, self._now = state, inbox, now_ns

    async def restart(self, keys: Iterable[str]) -> tuple[str, ...]:
        """End allocations and run them again where they are; without ``keys`` all that run. Which, once that is on disk.

        :raises DeploymentNotRunning: it does not run.
        :raises NotAllocated: one of them does not, or all.
        """
        state = self._state()
        if state.phase is not Phase.RUNNING:
            raise DeploymentNotRunning(f"deployment is not running: it is {state.phase.value}")
        named = tuple(dict.fromkeys(keys))
        for key in named:
            if not can_restart(state, key):
                status = state.allocations[key].status
                raise NotAllocated(f"{key} is not running: it is {status}", hint="only what runs can be restarted")
        wanted = named or tuple(key for key in state.allocations if can_restart(state, key))
        if not wanted:
            raise NotAllocated("no allocation of this deployment is running")
        await self._inbox.post(RestartRequested(at_ns=self._now(), keys=wanted)).wait()
        return wanted

    async def shutdown(self, reason: str = "") -> None:
        """End it in whatever phase it is; returns once that is on disk. ``reason``: where no user wants it.

        :raises DeploymentNotRunning: it has ended already.
        """
        state = self._state()
        if state.phase.is_final:
            raise DeploymentNotRunning(f"deployment is not running: it is {state.phase.value}")
        await self._inbox.post(ShutdownRequested(at_ns=self._now(), reason=reason)).wait()
        state = self._state()
        if state.phase is Phase.FAILED:
            raise DeploymentNotRunning(f"deployment is not running: it has just failed: {state.error}")

    async def update(self, event: UpdateRequested, written: EnsembleConfig) -> Version:
        """Become the version of which ``written`` is the ensemble; returns once that is on disk.

        The same request again is no second one.

        :raises UpdateRefused: it does not run, or becomes another version already.
        """
        known = next((v for v in self._state().versions if event.request and v.request == event.request), None)
        if known is None:
            check_updatable(self._state())
            await self._inbox.post(event, written).wait()
            known = next((v for v in self._state().versions if v.request == event.request), None)
        if known is None:
            check_updatable(self._state())
            raise UpdateRefused("the deployment is no longer what it was when the update was asked for")
        return known

    async def cancel_update(self, by: str) -> int:
        """Undo the update that is under way; returns its version once that is on disk.

        :raises NoUpdate: there is none.
        """
        state = self._state()
        if not state.is_updating or state.update is None:
            raise NoUpdate
        await self._inbox.post(UpdateCancelled(at_ns=self._now(), by=by)).wait()
        return state.update.version
