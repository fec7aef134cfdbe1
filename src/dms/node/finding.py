"""Deployments and allocations by the names that people give them."""

from __future__ import annotations

from collections.abc import Sequence

from dms.orchestrator.deployments import Deployments
from dms.orchestrator.errors import DeploymentNotFound
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.lifecycle.state import AllocationRecord
from dms.types.errors import BadInput, NotFound

MIN_PREFIX = 4


def find_deployment(deployments: Deployments, text: str) -> DeploymentRecord:
    """By id, or by the beginning of one if only one begins so.

    :raises DeploymentNotFound: none does.
    :raises BadInput: several do.
    """
    if len(text) >= MIN_PREFIX:
        found = [record for record in deployments.all() if record.id.startswith(text)]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise BadInput(f"{len(found)} deployments begin with {text}", hint="write more of the id")
    raise DeploymentNotFound(f"deployment not found: {text}")


def find_key(keys: Sequence[str], name: str) -> str:
    """One of ``<node>.<allocation>``, by that or by the name of its allocation.

    :raises NotFound: there is none; the hint lists those that there are.
    :raises BadInput: several nodes have one of this name.
    """
    found = [key for key in keys if name == key] or [key for key in keys if name == key.rpartition(".")[2]]
    if not found:
        raise NotFound(f"allocation not found: {name}", hint=f"there are {', '.join(keys)[:500]}")
    if len(found) > 1:
        raise BadInput(f"{len(found)} allocations are called {name}", hint=f"write one of {', '.join(found)[:500]}")
    return found[0]


def find_allocation(record: DeploymentRecord, name: str) -> AllocationRecord:
    """An allocation by ``<node>.<allocation>``, by its id, or by its name.

    :raises NotFound: there is none; the hint lists those that there are.
    :raises BadInput: several nodes have one of this name.
    """
    found = [a for a in record.state.allocations.values() if name in (a.key, a.id)]
    found = found or [a for a in record.state.allocations.values() if name == a.name]
    if not found:
        known = ", ".join(sorted(record.state.allocations))
        raise NotFound(f"allocation not found: {name}", hint=f"this deployment has {known[:500]}")
    if len(found) > 1:
        keys = ", ".join(sorted(a.key for a in found))
        raise BadInput(f"{len(found)} allocations are called {name}", hint=f"write one of {keys[:500]}")
    return found[0]
