"""Which files are under way, and what became of the last ones."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from dms.storage.errors import TooLarge
from dms.types.ids import PeerID

MAX_RUNNING, MAX_RUNNING_PER_PEER, MAX_RUNNING_PER_TENANT, MAX_REMEMBERED = 32, 8, 8, 200


class State(StrEnum):
    """How far a transfer is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Transfer:
    """One file on its way; ``done`` counts bytes, those of earlier attempts included."""

    id: str
    tenant: str
    is_outgoing: bool
    peer: PeerID
    volume: str
    path: str
    size: int
    done: int = 0
    state: State = State.RUNNING
    error: str = ""


class Transfers:
    """Those of one node."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, Transfer] = OrderedDict()

    def begin(self, transfer: Transfer) -> Transfer:
        """Note one more.

        :raises TooLarge: too many are under way: in all, with this peer, or of this tenant.
        """
        running = [one for one in self._all.values() if one.state is State.RUNNING]
        with_peer = sum((one.peer, one.is_outgoing) == (transfer.peer, transfer.is_outgoing) for one in running)
        of_tenant = sum(one.tenant == transfer.tenant for one in running)
        if len(running) >= MAX_RUNNING or with_peer >= MAX_RUNNING_PER_PEER or of_tenant >= MAX_RUNNING_PER_TENANT:
            raise TooLarge("too many files are under way", hint="wait until some have arrived")
        self._all[transfer.id] = transfer
        while len(self._all) > MAX_REMEMBERED:
            oldest = next((one.id for one in self._all.values() if one.state is not State.RUNNING), None)
            if oldest is None:
                break
            del self._all[oldest]
        return transfer

    def of(self, tenant: str) -> tuple[Transfer, ...]:
        """A tenant's, the oldest first."""
        return tuple(one for one in self._all.values() if one.tenant == tenant)
