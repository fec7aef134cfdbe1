"""The search for an assignment, held against trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.actor.handle import handle_of_peer
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.matching import Unmatched, Wanted, match
from dms.resources.arithmetic import fits, total
from dms.testing.actors import key_of
from dms.types.ids import PeerID
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

PEERS = [peer_id_of(key_of(f"peer {number}").public) for number in range(12)]


def amount(cores: float, ram: int = 0) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram), disk=Disk(size=0))


def bid(node: str, peer: PeerID, free: Resources | None) -> Bid:
    return Bid(node_id=node, peer=peer, handle=handle_of_peer(peer), free=free)


def is_right(wanted: Sequence[Wanted], bids: Sequence[Bid], chosen: Mapping[str, Bid]) -> bool:
    """Every node has one of its bids, pins hold, and no peer holds more than it said."""
    if any(chosen[w.node_id] not in bids or chosen[w.node_id].node_id != w.node_id for w in wanted):
        return False
    if any(w.pinned and chosen[w.node_id].peer != w.pinned for w in wanted):
        return False
    by_peer: dict[PeerID, list[Wanted]] = {}
    for w in wanted:
        by_peer.setdefault(chosen[w.node_id].peer, []).append(w)
    for hosted in by_peer.values():
        free = chosen[hosted[0].node_id].free
        if len(hosted) > 1 if free is None else not fits(free, total(w.resources for w in hosted)):
            return False
    return True


def brute_force(wanted: Sequence[Wanted], bids: Sequence[Bid]) -> bool:
    """Whether any assignment is right."""
    options = [[b for b in bids if b.node_id == w.node_id] for w in wanted]
    return any(
        is_right(wanted, bids, {w.node_id: b for w, b in zip(wanted, choice, strict=True)})
        for choice in itertools.product(*options)
    )


@st.composite
def instances(draw: st.DrawFn) -> tuple[list[Wanted], list[Bid]]:
    nodes = [f"n{i}" for i in range(draw(st.integers(1, 4)))]
    peers = PEERS[: draw(st.integers(1, 4))]
    amounts = st.builds(amount, st.sampled_from([0.5, 1.0, 1.5, 2.0]), st.integers(0, 3))
    free = {
        p: draw(st.none() | st.builds(amount, st.sampled_from([0.5, 1.0, 2.0, 3.5]), st.integers(0, 6))) for p in peers
    }
    wanted = [Wanted(n, draw(amounts), draw(st.sampled_from([None, None, None, *peers]))) for n in nodes]
    pairs = draw(st.lists(st.sampled_from(list(itertools.product(nodes, peers))), unique=True))
    return wanted, [bid(n, p, free[p]) for n, p in pairs]


@settings(max_examples=100)
@given(instances())
def test_it_finds_an_assignment_exactly_when_there_is_one(instance: tuple[list[Wanted], list[Bid]]) -> None:
    wanted, bids = instance
    found = match(wanted, bids)
    if isinstance(found, Unmatched):
        assert not brute_force(wanted, bids)
        assert str(found)
        assert set(found.without_bids or found.contended) <= {w.node_id for w in wanted}
    else:
        assert is_right(wanted, bids, found)


def test_a_generator_of_bids_will_do() -> None:
    wanted = [Wanted("n1", amount(1)), Wanted("n2", amount(1))]
    found = match((w for w in wanted), (bid(w.node_id, PEERS[0], amount(2)) for w in wanted))
    assert not isinstance(found, Unmatched)


def test_nodes_without_bids_are_named() -> None:
    found = match([Wanted("n1", amount(1)), Wanted("n2", amount(1))], [bid("n1", PEERS[0], amount(2))])
    assert found == Unmatched(without_bids=("n2",))
    assert str(found) == "no bids for n2"


def test_peers_that_could_hold_either_but_not_both_are_contended() -> None:
    wanted = [Wanted("n1", amount(2)), Wanted("n2", amount(2))]
    found = match(wanted, [bid(w.node_id, PEERS[0], amount(3)) for w in wanted])
    assert str(found) == "the peers that bid cannot hold n1, n2 together"


def test_a_peer_that_does_not_say_what_it_has_hosts_one_node() -> None:
    wanted = [Wanted("n1", amount(1)), Wanted("n2", amount(1))]
    assert isinstance(match(wanted, [bid(w.node_id, PEERS[0], None) for w in wanted]), Unmatched)
    found = match(wanted, [bid(w.node_id, p, None) for w in wanted for p in PEERS[:2]])
    assert not isinstance(found, Unmatched)
    assert len({b.peer for b in found.values()}) == 2


def test_the_load_is_spread_and_bigger_peers_are_preferred() -> None:
    wanted = [Wanted(f"n{i}", amount(1)) for i in range(3)]
    bids = [bid(w.node_id, p, amount(size)) for w in wanted for p, size in zip(PEERS, (4, 8, 6, 2), strict=False)]
    found = match(wanted, bids)
    assert not isinstance(found, Unmatched)
    assert {b.peer for b in found.values()} == {PEERS[0], PEERS[1], PEERS[2]}


def test_of_several_bids_of_a_peer_the_last_counts() -> None:
    wanted = [Wanted("n1", amount(2))]
    assert isinstance(match(wanted, [bid("n1", PEERS[0], amount(1))]), Unmatched)
    again = match(wanted, [bid("n1", PEERS[0], amount(3)), bid("n1", PEERS[0], amount(4))])
    assert not isinstance(again, Unmatched)
    assert again["n1"].free == amount(4)


def test_that_many_equal_nodes_do_not_fit_is_proven_without_trying_all_ways() -> None:
    """Without memory of what is hopeless this would take the age of the universe, or give up."""
    wanted = [Wanted(f"n{i:02}", amount(1.25)) for i in range(17)]
    bids = [bid(w.node_id, p, amount(3)) for w in wanted for p in PEERS[:8]]  # each holds two, three would be 3.75
    found = match(wanted, bids)
    assert isinstance(found, Unmatched)
    assert len(found.contended) == 17
    assert not isinstance(match(wanted[:16], bids), Unmatched)


def test_nodes_that_want_any_gpu_are_spread_over_those_of_a_peer_until_their_memory_is_gone() -> None:
    gpus = tuple(GPU(index=i, uuid=f"GPU-{i}", vendor="NVIDIA", vram=10) for i in range(2))
    free = msgspec.structs.replace(amount(8), gpus=gpus)
    wanted = [
        Wanted(f"n{i}", msgspec.structs.replace(amount(1), gpus=(GPU(vendor="NVIDIA", vram=vram),)))
        for i, vram in enumerate((7, 6, 3, 4))
    ]
    bids = [bid(w.node_id, PEERS[0], free) for w in wanted]
    assert isinstance(match(wanted, bids), dict)
    more = Wanted("n4", msgspec.structs.replace(amount(1), gpus=(GPU(vram=1),)))
    assert isinstance(match([*wanted, more], [*bids, bid("n4", PEERS[0], free)]), Unmatched)


def test_bids_with_amounts_that_are_none_are_not_looked_at() -> None:
    wanted = [Wanted("n1", amount(1))]
    nonsense = [bid("n1", PEERS[0], amount(float("inf"))), bid("n1", PEERS[1], amount(8, -1))]
    assert match(wanted, nonsense) == Unmatched(without_bids=("n1",))
    found = match(wanted, [*nonsense, bid("n1", PEERS[2], amount(1))])
    assert not isinstance(found, Unmatched)
    assert found["n1"].peer == PEERS[2]


def test_many_equal_nodes_share_the_bids_for_one_name() -> None:
    wanted = [Wanted(f"gpu-{i}", amount(1), asked_as="gpu") for i in range(50)]
    found = match(wanted, [bid("gpu", p, amount(5)) for p in PEERS[:10]])
    assert not isinstance(found, Unmatched)
    assert [[b.peer for b in found.values()].count(p) for p in PEERS[:10]] == [5] * 10
    refused = match(
        [*wanted, Wanted("one more", amount(1), asked_as="gpu")], [bid("gpu", p, amount(5)) for p in PEERS[:10]]
    )
    assert isinstance(refused, Unmatched)
    assert refused.conflict is not None
