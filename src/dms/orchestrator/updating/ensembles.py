"""The versions of its ensemble that a deployment has in hand: the one in force, and the one that it becomes."""

from __future__ import annotations

from dataclasses import dataclass

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import expanded
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.updating.merging import in_force
from dms.orchestrator.updating.turning import Both


@dataclass(frozen=True, slots=True)
class Ensembles:
    """``base`` is that of the state's version, ``target`` that of its update; both are expanded. ``written`` is the target as
    its user wrote it, which is what is stored."""

    base: EnsembleConfig
    target: EnsembleConfig | None = None
    written: EnsembleConfig | None = None

    def offering(self, written: EnsembleConfig) -> Ensembles:
        """With a new version to become."""
        return Ensembles(self.base, expanded(written), written)

    @property
    def both(self) -> Both | None:
        """For the machine, while there are two."""
        return None if self.target is None else Both(self.base, self.target)

    def in_force(self, state: DeploymentState) -> EnsembleConfig:
        """What the machines run, or are about to."""
        if self.target is None or state.update is None:
            return self.base
        return in_force(self.base, self.target, state.update)

    def after(self, before: DeploymentState, state: DeploymentState) -> Ensembles:
        """What is left in hand after a step."""
        if state.update is not None:
            return self
        base = self.base if self.target is None or state.version == before.version else self.target
        return Ensembles(base)


def is_same_mix(before: DeploymentState, after: DeploymentState) -> bool:
    """Whether the same of both versions is in force after a step as before."""
    if before.version != after.version:
        return False
    if before.update is None or after.update is None:
        return before.update is after.update
    a, b = before.update, after.update
    return (a.serial, a.is_back, a.switched, a.batch, a.stopped) == (
        b.serial,
        b.is_back,
        b.switched,
        b.batch,
        b.stopped,
    )
