"""Identifiers that are text on the wire and must not be confused with each other."""

from __future__ import annotations

from typing import NewType

PeerID = NewType("PeerID", str)
"""A libp2p peer id in base58btc, such as ``12D3KooW…``."""

Capability = NewType("Capability", str)
"""A capability path such as ``/dms/deployment``; a path grants itself and everything below it."""

EnsembleID = NewType("EnsembleID", str)
"""Hex SHA-256 of the orchestrating peer and a random UUID (``spec/ensemble.md`` 5); also the orchestrator's inbox."""

AllocationID = NewType("AllocationID", str)
"""``<ensemble id>_<node>.<allocation>``; also the inbox of the allocation's actor."""
