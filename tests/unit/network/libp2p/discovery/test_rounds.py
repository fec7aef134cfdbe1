"""Tests of :mod:`dms.network.libp2p.discovery.rounds` and of whom the rendezvous dials."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr
from trio.testing import MockClock

from dms.network.errors import PeerUnreachable
from dms.network.kademlia.messages import Contact
from dms.network.libp2p.discovery.rendezvous import Rendezvous, choose
from dms.network.libp2p.discovery.rounds import (
    ADVERTISE,
    FAILED_MAX_S,
    MAX_DIALLED,
    SEARCH,
    WALK,
    Pace,
    Times,
    keep_up,
)
from dms.testing.kademlia import Neighbour, VirtualTable
from dms.types.ids import PeerID

ADDRESS = Multiaddr("/ip4/10.0.0.1/tcp/9000")


@given(st.integers(0, 1 << 30))
def test_walks_come_rarer_and_rarer(seed: int) -> None:
    pace = Pace(WALK, random.Random(seed))
    assert pace.first_s() == 300
    period_s = 300.0
    for _ in range(20):
        assert 0.5 * period_s <= pace.after_success_s() <= 1.5 * period_s
        period_s = min(1.5 * period_s, 4 * 3600)
    assert period_s == 4 * 3600


def test_failures_wait_a_little_longer_each_time_until_one_works() -> None:
    pace = Pace(WALK, random.Random(1))
    waits = [pace.after_failure_s() for _ in range(30)]
    assert waits[:3] == [10, 12.5, 15.625]
    assert waits[-1] == FAILED_MAX_S
    pace.after_success_s()
    assert pace.after_failure_s() == 10


def test_searching_and_advertising_keep_their_periods() -> None:
    rng = random.Random(1)
    search, advertise = Pace(SEARCH, rng), Pace(ADVERTISE, rng)
    assert search.first_s() == advertise.first_s() == 60
    assert all(0.9 * 900 <= search.after_success_s() <= 1.1 * 900 for _ in range(50))
    assert all(0.9 * 6 * 3600 <= advertise.after_success_s() <= 6 * 3600 for _ in range(50))


async def test_a_job_is_done_at_its_times(autojump_clock: MockClock) -> None:
    begun_s = trio.current_time()
    at_s: list[float] = []

    async def job() -> bool:
        at_s.append(trio.current_time() - begun_s)
        if len(at_s) == 2:
            raise PeerUnreachable
        return len(at_s) != 3

    with trio.move_on_after(200):
        await keep_up(Times(5.0, 100.0), job, random.Random(1))
    assert at_s == pytest.approx([5, 105, 115, 127.5])


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans())), st.integers(0, 1 << 30))
def test_only_new_peers_with_addresses_are_chosen_and_not_too_many(
    found: list[tuple[int, bool, bool]], seed: int
) -> None:
    contacts = [Contact(PeerID(str(number)), (ADDRESS,) if told else ()) for number, told, _ in found]
    known = {PeerID(str(number)) for number, _, in_book in found if in_book}
    taken = [PeerID("1"), PeerID("2")]
    chosen = choose(
        contacts, without=taken, known=lambda peer: (ADDRESS,) if peer in known else (), rng=random.Random(seed)
    )
    assert len(chosen) <= MAX_DIALLED
    for one in chosen:
        assert one.addresses
        assert one.peer not in taken
    possible = [one for one in contacts if one.peer not in taken and (one.addresses or one.peer in known)]
    assert len(chosen) == min(len(possible), MAX_DIALLED)


async def test_who_advertises_at_the_rendezvous_is_met_there(autojump_clock: MockClock) -> None:
    table = VirtualTable(24)
    dialled: dict[PeerID, list[PeerID]] = {}

    def rendezvous(one: Neighbour, name: str = "nunet-test") -> Rendezvous:
        async def dial(peer: PeerID, _addresses: object) -> None:
            dialled.setdefault(one.peer, []).append(peer)
            if len(dialled[one.peer]) % 2:
                raise PeerUnreachable  # some do not answer; the others are still dialled

        return Rendezvous(
            one.node,
            name,
            own_addresses=lambda: (one.address,),
            known=lambda _peer: (),
            connected=lambda: [table.nodes[1].peer],
            dial=dial,
        )

    loner = rendezvous(table.nodes[0])
    assert not await loner.advertise()  # nobody is there yet
    assert not await loner.search()
    await table.introduce()
    for one in table.nodes[:20]:
        assert await rendezvous(one).advertise()
    seeker = table.nodes[20]
    assert await rendezvous(seeker).search()
    assert len(dialled[seeker.peer]) == MAX_DIALLED
    assert set(dialled[seeker.peer]) <= {one.peer for one in table.nodes[:20]} - {table.nodes[1].peer}
    assert await rendezvous(table.nodes[21], "nunet-test/another").search()
    assert table.nodes[21].peer not in dialled
