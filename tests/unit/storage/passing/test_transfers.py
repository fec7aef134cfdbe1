"""Which files are under way."""

from __future__ import annotations

import pytest

from dms.storage.errors import TooLarge
from dms.storage.passing.transfers import (
    MAX_REMEMBERED,
    MAX_RUNNING,
    MAX_RUNNING_PER_PEER,
    MAX_RUNNING_PER_TENANT,
    State,
    Transfer,
    Transfers,
)
from dms.types.ids import PeerID


def transfer(number: int, *, tenant: str = "", peer: str = "", state: State = State.RUNNING) -> Transfer:
    peer_id = PeerID(peer or f"peer {number}")
    return Transfer(str(number), tenant or f"tenant {number}", True, peer_id, "data", "file", 1, state=state)


@pytest.mark.parametrize(
    ("tenant", "peer", "most"),
    [("", "", MAX_RUNNING), ("one", "", MAX_RUNNING_PER_TENANT), ("", "one", MAX_RUNNING_PER_PEER)],
)
def test_a_bounded_number_is_under_way(tenant: str, peer: str, most: int) -> None:
    transfers = Transfers()
    begun = [transfers.begin(transfer(number, tenant=tenant, peer=peer)) for number in range(most)]
    with pytest.raises(TooLarge):
        transfers.begin(transfer(most, tenant=tenant, peer=peer))
    begun[0].state = State.DONE
    transfers.begin(transfer(most, tenant=tenant, peer=peer))


def test_the_last_that_ended_are_remembered_and_those_under_way() -> None:
    transfers = Transfers()
    transfers.begin(transfer(0, tenant="one"))
    for number in range(1, 2 * MAX_REMEMBERED):
        transfers.begin(transfer(number, tenant="one", state=State.DONE))
    told = transfers.of("one")
    assert len(told) == MAX_REMEMBERED
    assert (told[0].id, told[-1].id) == ("0", str(2 * MAX_REMEMBERED - 1))
    assert transfers.of("two") == ()
