"""What an ensemble asks for: equal nodes together, different ones apart; and what becomes of the bids."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dms.actor.handle import handle_of_peer
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import expanded
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.assignment import Measure, assign
from dms.orchestrator.bidding.bid import Bid, PriceBid, affordable, asked_price, for_each_node
from dms.orchestrator.bidding.measured import MeasuredPair, describe_pair
from dms.orchestrator.bidding.wishes import Wishes, member_part, requests_for, wishes_of
from dms.orchestrator.matching import Unmatched
from dms.testing.actors import key_of
from dms.types import gojson
from dms.types.resources import CPU, GPU, RAM, Disk, Location, Resources

FREE = Resources(cpu=CPU(cores=8.0), ram=RAM(size=64 << 30), disk=Disk(size=1 << 30))
PEERS = tuple(peer_id_of(key_of(f"peer {number}").public) for number in range(4))


def allocation(cores: float = 1.0, *vrams: int) -> dict[str, Any]:
    gpus = [{"vram": vram} for vram in vrams]
    resources = {"cpu": {"cores": cores}, "ram": {"size": 1 << 30}, "disk": {"size": 1}, "gpus": gpus}
    return {"type": "task", "executor": "null", "resources": resources, "execution": {"type": "null"}}


def config(nodes: dict[str, Any], allocations: dict[str, Any], **members: Any) -> EnsembleConfig:
    return expanded(decode_ensemble({"v1": {"allocations": allocations, "nodes": nodes, **members}}))


def bid(node: str, peer: int, free: Resources | None = FREE, **members: Any) -> Bid:
    return Bid(node_id=node, peer=PEERS[peer], handle=handle_of_peer(PEERS[peer]), free=free, **members)


def test_equal_nodes_are_one_kind_and_what_differs_is_another() -> None:
    wishes = Wishes(
        config(
            {
                "a": {"allocations": ["x"]},
                "b": {"allocations": ["y"]},
                "pinned": {"allocations": ["z"], "peer": PEERS[0]},
                "large": {"allocations": ["l"]},
                "far": {"allocations": ["f"], "location": {"accept": [{"continent": "AS"}]}},
            },
            {"x": allocation(), "y": allocation(), "z": allocation(), "l": allocation(2.0), "f": allocation()},
        )
    )
    assert {name: kind.nodes for name, kind in wishes.kinds.items()} == {
        "a": ("a", "b"), "pinned": ("pinned",), "large": ("large",), "far": ("far",),
    }  # fmt: skip
    assert [(w.node_id, w.name) for w in wishes.wanted if w.name != w.node_id] == [("b", "a")]


def test_ten_thousand_equal_nodes_are_one_small_request() -> None:
    group = config({"w": {"allocations": ["x"], "count": 10_000}}, {"x": allocation(1.0, 1 << 30)})
    (portion,) = requests_for(Wishes(group).kinds.values())
    (entry,) = portion
    assert entry.v1.nodes == ("w-0002..w-9999", "w-10000")
    assert len(gojson.encode(entry)) < 1_000


def test_very_many_kinds_are_asked_for_in_several_messages() -> None:
    names = [f"n{number}" for number in range(600)]
    nodes = {name: {"allocations": [name]} for name in names}
    many = config(nodes, {name: allocation(1.0 + number / 100) for number, name in enumerate(names)})
    portions = list(requests_for(Wishes(many).kinds.values()))
    assert len(portions) > 1
    assert sorted(entry.v1.node_id for portion in portions for entry in portion) == sorted(names)
    assert all(len(gojson.encode(portion)) < 70_000 for portion in portions)


def test_members_of_a_group_tell_which_allocation_is_which() -> None:
    parts = {"t": allocation(1.0, 1 << 30), "u": allocation(1.0, 1 << 30)}
    group = config({"w": {"allocations": ["t", "u"], "count": 3}}, parts)
    (kind,) = Wishes(group).kinds.values()
    assert [member_part(kind.request, name, "w-0003") for name in kind.request.allocations or {}] == [
        "t-0003",
        "u-0003",
    ]
    apart = config(
        {"m": {"allocations": ["a", "b"]}, "n": {"allocations": ["c", "d"]}},
        {name: allocation(1.0, 1 << 30) for name in "abcd"},
    )
    assert len(Wishes(apart).kinds) == 2, "nobody could tell which allocation of n is which of m"


def test_wishes_are_worked_out_once() -> None:
    one = config({"a": {"allocations": ["x"]}}, {"x": allocation()})
    assert wishes_of(one) is wishes_of(one)
    assert wishes_of(replace(one)) is not wishes_of(one)


def test_one_bid_serves_all_nodes_of_its_kind_as_far_as_there_is_room() -> None:
    group = config({"w": {"allocations": ["x"], "count": 10}}, {"x": allocation()})
    wishes = Wishes(group)
    full = assign(wishes, [bid("w-0001", 0), bid("w-0001", 1)])
    assert isinstance(full, dict)
    assert sorted(full) == sorted(group.v1.nodes)
    assert {b.peer for b in full.values()} == set(PEERS[:2])
    assert isinstance(assign(wishes, [bid("w-0001", 0)]), Unmatched), "eight cores for ten"
    original = assign(wishes, [bid("w-0001", 0), bid("w-0001", 1, None)])
    assert isinstance(original, Unmatched), "who does not say what it has hosts one"


def test_allocations_of_a_node_share_a_gpu_and_nodes_do_so_too() -> None:
    gpu = GPU(index=0, vram=16 << 30)
    free = replace(FREE, gpus=(gpu,))
    parts = {name: allocation(1.0, 5 << 30) for name in "abcd"}
    three = config(
        {"m": {"allocations": ["a", "b"]}, "n": {"allocations": ["c"]}}, {name: parts[name] for name in "abc"}
    )
    assert isinstance(assign(Wishes(three), [bid("m", 0, free), bid("n", 0, free)]), dict)
    four = config({"m": {"allocations": ["a", "b"]}, "n": {"allocations": ["c", "d"]}}, parts)
    assert isinstance(assign(Wishes(four), [bid("m", 0, free), bid("n", 0, free)]), Unmatched)


def test_a_bid_from_a_place_that_is_not_accepted_is_not_used() -> None:
    far = config(
        {"n": {"allocations": ["x"], "location": {"accept": [{"continent": "AS"}]}}},
        {"x": allocation()},
    )
    assert isinstance(assign(Wishes(far), [bid("n", 0, location=Location(continent="EU"))]), Unmatched)
    assert isinstance(assign(Wishes(far), [bid("n", 0, location=Location(continent="AS"))]), dict)


def test_only_pairs_that_matter_are_measured_and_then_decide() -> None:
    linked = config(
        {"m": {"allocations": ["a"]}, "n": {"allocations": ["b"]}},
        {"a": allocation(5.0), "b": allocation(6.0)},
        edges=[{"s": "m", "t": "n", "rtt": 20}],
    )
    bids = [bid(node, peer) for node in ("m", "n") for peer in range(3)]
    first = assign(Wishes(linked), bids)
    assert isinstance(first, Measure)
    assert len(first.pairs) == 1
    measured = [MeasuredPair(a=a, b=b, rtt_ms=50.0) for a, b in first.pairs]
    second = assign(Wishes(linked), bids, measured)
    assert isinstance(second, Measure)
    assert not set(second.pairs) & set(first.pairs)
    measured += [MeasuredPair(a=a, b=b, rtt_ms=10.0) for a, b in second.pairs]
    found = assign(Wishes(linked), [replace(b, proof=b"signed") for b in bids], measured)
    assert isinstance(found, dict)
    assert {frozenset(b.peer for b in found.values())} == {frozenset(pair) for pair in second.pairs}
    assert all(b.proof == b"" for b in found.values()), "not kept any longer than needed"
    everywhere = [MeasuredPair(a=PEERS[i], b=PEERS[j]) for i in range(3) for j in range(i)]
    assert isinstance(assign(Wishes(linked), bids, everywhere), Unmatched), (
        "a pair that cannot be measured keeps no edge"
    )


def test_numbers_of_different_currencies_are_not_compared() -> None:
    def asks(peer: int, **prices: float) -> Bid:
        return bid("n", peer, prices=tuple(PriceBid(currency=c, per_hour=p) for c, p in prices.items()))

    def chosen(*bids: Bid, **limits: float) -> str:
        requires = {"prices": [f"{c} {p}" for c, p in limits.items()]} if limits else {}
        wanted = Wishes(config({"n": {"allocations": ["x"], "requires": requires}}, {"x": allocation()}))
        found = assign(wanted, bids)
        assert isinstance(found, dict)
        return str(PEERS.index(found["n"].peer))

    yen, euro, dear = asks(0, JPY=0.5), asks(1, EUR=2.0), asks(2, EUR=3.0)
    assert chosen(yen, euro, dear) == "1", "most ask in euros; what is asked in yen is as dear as the dearest of them"
    assert chosen(yen, euro, dear, JPY=9, EUR=9) == "0", "the first currency that the ensemble names"
    assert chosen(yen, euro, dear, EUR=9, JPY=9) == "1"
    assert chosen(yen, euro, dear, USD=9, JPY=9) == "0", "nobody asks in dollars"
    assert chosen(asks(0, JPY=1.0, EUR=4.0), euro, dear, EUR=9, JPY=9) == "1"
    assert chosen(euro, bid("n", 2)) == "2", "what costs nothing is cheaper than anything"


def room(cores: float) -> Resources:
    return replace(FREE, cpu=CPU(cores=cores))


def test_one_peer_serves_as_many_nodes_as_it_has_room_for() -> None:
    three = config({n: {"allocations": [f"x{n}"]} for n in "abc"}, {f"x{n}": allocation() for n in "abc"})
    wishes = Wishes(three)
    (kind,) = wishes.kinds.values()
    found = assign(wishes, [bid(kind.name, 0, room(2.0)), bid(kind.name, 1, room(1.0))])
    assert isinstance(found, dict)
    assert sorted(PEERS.index(b.peer) for b in found.values()) == [0, 0, 1]
    assert isinstance(assign(wishes, [bid(kind.name, 0, room(2.0))]), Unmatched)


def test_prices_decide_what_is_affordable_and_which_is_cheaper() -> None:
    cheap, dear = PriceBid(currency="NTX", per_hour=1.0), PriceBid(currency="NTX", per_hour=1.0, per_result=5.0)
    limit = (PriceBid(currency="NTX", per_hour=2.0, per_result=1.0),)
    assert affordable(bid("n", 0, prices=(dear, cheap)), limit)
    assert not affordable(bid("n", 0, prices=(dear,)), limit)
    assert not affordable(bid("n", 0, prices=(replace(cheap, currency="EUR"),)), limit)
    assert not affordable(bid("n", 0, prices=(replace(cheap, per_hour=-1.0),)), limit)
    assert not affordable(bid("n", 0, prices=(replace(cheap, per_hour=float("nan")),)), limit)
    assert not affordable(bid("n", 0), limit)
    assert affordable(bid("n", 0, prices=(dear, cheap)), limit) == (cheap,)
    assert asked_price(bid("n", 0, prices=(dear, cheap)), "NTX") == 1.0
    assert asked_price(bid("n", 0, prices=(dear, cheap)), "EUR") is None
    assert asked_price(bid("n", 0), "EUR") == 0.0
    one = config({"n": {"allocations": ["x"]}}, {"x": allocation()})
    found = assign(
        Wishes(one), [bid("n", 0, prices=(dear,)), bid("n", 1, prices=(cheap,)), bid("n", 2, prices=(dear,))]
    )
    assert isinstance(found, dict)
    assert found["n"].peer == PEERS[1]


def test_a_bid_for_several_nodes_is_one_for_each() -> None:
    assert [b.node_id for b in for_each_node(bid("a", 0, also=("b", "a", "c")))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (MeasuredPair(a=PEERS[0], b=PEERS[1], rtt_ms=1.23456), {"rtt_ms": 1.235}),
        (MeasuredPair(a=PEERS[0], b=PEERS[1], rtt_ms=1.0, bandwidth_bps=2.6), {"rtt_ms": 1.0, "bandwidth_bps": 3}),
        (MeasuredPair(a=PEERS[0], b=PEERS[1], error="gone"), {"error": "gone"}),
    ],
)
def test_what_was_measured_is_told(pair: MeasuredPair, told: dict[str, object]) -> None:
    assert describe_pair(pair) == {"between": [PEERS[0], PEERS[1]]} | told
