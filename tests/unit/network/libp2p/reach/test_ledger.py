"""What a relay promises, and to how many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.ledger import Ledger, RelayLimits
from dms.network.libp2p.reach.messages import Status
from dms.types.ids import PeerID

SMALL = RelayLimits(reservations=3, reservations_per_ip=2, circuits=3, circuits_per_peer=2, reservation_s=10)
A, B, C, D = map(PeerID, "abcd")


def test_reservations_are_bounded_in_all_and_per_address() -> None:
    ledger = Ledger(SMALL)
    assert ledger.reserve(A, "1.1.1.1", 0) is Status.OK
    assert ledger.reserve(B, "1.1.1.1", 0) is Status.OK
    assert ledger.reserve(C, "1.1.1.1", 0) is Status.RESERVATION_REFUSED
    assert ledger.reserve(C, "2.2.2.2", 0) is Status.OK
    assert ledger.reserve(D, "3.3.3.3", 0) is Status.RESERVATION_REFUSED
    assert ledger.reserve(A, "1.1.1.1", 0) is Status.OK, "who has one may renew it"


def test_a_reservation_ends_by_itself_or_with_its_peer() -> None:
    ledger = Ledger(SMALL)
    ledger.reserve(A, "1.1.1.1", 0)
    assert ledger.open(B, A, 9) is Status.OK
    assert ledger.open(B, A, 10) is Status.NO_RESERVATION
    ledger.reserve(A, "1.1.1.1", 20)
    ledger.forget(A)
    assert ledger.open(B, A, 20) is Status.NO_RESERVATION
    assert ledger.reservations(20) == 0


def test_connections_are_bounded_per_peer_and_in_all() -> None:
    ledger = Ledger(SMALL)
    ledger.reserve(A, "1.1.1.1", 0)
    ledger.reserve(B, "2.2.2.2", 0)
    assert ledger.open(C, A, 0) is Status.OK
    assert ledger.open(C, B, 0) is Status.OK
    assert ledger.open(C, A, 0) is Status.RESOURCE_LIMIT_EXCEEDED
    assert ledger.open(D, A, 0) is Status.OK
    assert ledger.open(D, B, 0) is Status.RESOURCE_LIMIT_EXCEEDED
    ledger.close(C, A)
    assert ledger.open(D, B, 0) is Status.OK


ACTIONS = st.lists(st.tuples(st.sampled_from("rocf"), st.sampled_from([A, B, C, D]), st.sampled_from([A, B, C, D])))


@given(ACTIONS)
def test_the_bounds_hold_and_places_come_back(actions: list[tuple[str, PeerID, PeerID]]) -> None:
    ledger = Ledger(SMALL)
    opened: list[tuple[PeerID, PeerID]] = []
    for now_s, (action, one, other) in enumerate(actions):
        if action == "r":
            ledger.reserve(one, f"{other}.1", now_s)
        elif action == "f":
            ledger.forget(one)
        elif action == "o" and one != other and ledger.open(one, other, now_s) is Status.OK:
            opened.append((one, other))
        elif action == "c" and opened:
            ledger.close(*opened.pop())
        assert ledger.circuits == len(opened) <= SMALL.circuits
        assert ledger.reservations(now_s) <= SMALL.reservations
        for peer in (A, B, C, D):
            assert sum(peer in pair for pair in opened) <= SMALL.circuits_per_peer
    for pair in opened:
        ledger.close(*pair)
    assert ledger.circuits == 0
