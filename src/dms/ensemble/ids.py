"""Identifiers of ensembles and of what is in them (``spec/ensemble.md`` 5)."""

from __future__ import annotations

import hashlib
import uuid

from dms.ensemble.errors import InvalidID
from dms.types.ids import AllocationID, EnsembleID, PeerID


def new_ensemble_id(host: PeerID, random_uuid: uuid.UUID) -> EnsembleID:
    """Hex SHA-256 of the orchestrating peer and a random UUID, which the caller draws."""
    return EnsembleID(hashlib.sha256(f"{host}{random_uuid}".encode()).hexdigest())


def allocation_key(node: str, allocation: str) -> str:
    """``<node>.<allocation>``: the name of an allocation inside its ensemble, and its key in the manifest."""
    return f"{node}.{allocation}"


def split_allocation_key(key: str) -> tuple[str, str]:
    """Node and allocation of ``<node>.<allocation>``.

    :raises InvalidID: not exactly two names.
    """
    node, dot, allocation = key.partition(".")
    if not (node and dot and allocation) or "." in allocation:
        raise InvalidID(f'"{key}" is not <node>.<allocation>')
    return node, allocation


def allocation_id(ensemble_id: EnsembleID, node: str, allocation: str) -> AllocationID:
    """``<ensemble id>_<node>.<allocation>``. Names hold neither ``_`` nor ``.``, so that it can be split again."""
    return AllocationID(f"{ensemble_id}_{allocation_key(node, allocation)}")


def split_allocation_id(text: str) -> tuple[EnsembleID, str, str]:
    """Ensemble, node and allocation of an allocation id.

    :raises InvalidID: not of the form ``<ensemble id>_<node>.<allocation>``.
    """
    ensemble_id, underscore, key = text.partition("_")
    if not (ensemble_id and underscore) or "_" in key:
        raise InvalidID(f'"{text}" is not <ensemble id>_<node>.<allocation>')
    node, allocation = split_allocation_key(key)
    return EnsembleID(ensemble_id), node, allocation


def standby_name(node: str, number: int) -> str:
    """The node that stands by for ``node``; numbers begin with 1."""
    return f"{node}-standby-{number}"
