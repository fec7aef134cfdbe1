"""Tests of whole hash tables in memory: :mod:`dms.network.kademlia.node`, ``queries``, ``server`` and ``directory``."""

from __future__ import annotations

import pytest
import trio
from multiaddr import Multiaddr
from trio.testing import MockClock

from dms.network.directory import MAX_DATA_BYTES, MAX_OWN_KEYS
from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.kademlia.advertisements import record_key, seal, unseal
from dms.network.kademlia.directory import RENEW_S
from dms.network.kademlia.keys import peer_bytes, provider_key
from dms.network.kademlia.messages import Contact, Kind, Message
from dms.network.kademlia.server import REQUESTS_AT_ONCE
from dms.testing.kademlia import Neighbour, VirtualTable
from dms.types.errors import BadInput
from dms.types.ids import PeerID


async def table_of(count: int) -> tuple[VirtualTable, tuple[Neighbour, ...]]:
    table = VirtualTable(count)
    await table.introduce()
    return table, table.nodes


async def test_anybody_finds_anybody(autojump_clock: MockClock) -> None:
    _, nodes = await table_of(40)
    for seeker in (nodes[0], nodes[39]):
        for wanted in (nodes[1], nodes[19], nodes[38]):
            assert await seeker.directory.find(wanted.peer) == (str(wanted.address),)
    assert await nodes[0].node.queries.find_peer(Neighbour(VirtualTable(0, seed=9), 1).peer) == ()


async def test_a_search_takes_few_questions(autojump_clock: MockClock) -> None:
    table, nodes = await table_of(60)
    before = table.asked
    found = await nodes[7].node.queries.closest(b"anything")
    assert len(found) == 20
    assert table.asked - before <= 60


async def test_what_is_advertised_is_found_replaced_and_withdrawn(autojump_clock: MockClock) -> None:
    _, nodes = await table_of(22)
    await nodes[3].directory.advertise("gpu", b"one")
    await nodes[4].directory.advertise("gpu", b"two")
    for seeker in (nodes[3], nodes[20]):
        found = await seeker.directory.query("gpu")
        assert {(one.peer, one.data) for one in found} == {(nodes[3].peer, b"one"), (nodes[4].peer, b"two")}
    assert await nodes[20].directory.query("cpu") == []

    await nodes[3].directory.advertise("gpu", b"better")
    assert {one.data for one in await nodes[20].directory.query("gpu")} == {b"better", b"two"}
    await nodes[3].directory.withdraw("gpu")
    assert {one.data for one in await nodes[20].directory.query("gpu")} == {b"two"}
    assert nodes[3].directory.state().advertised == ()


async def test_nobody_can_bring_back_what_was_replaced_or_withdrawn(autojump_clock: MockClock) -> None:
    table, nodes = await table_of(21)
    owner, attacker, seeker = nodes[3], nodes[4], nodes[20]
    await owner.directory.advertise("gpu", b"old")
    stored = attacker.node.values.get(record_key("gpu", owner.peer), table.wall_s())
    assert stored is not None
    await owner.directory.withdraw("gpu")

    for victim in nodes[5:10]:
        await attacker.node.queries.put(record_key("gpu", owner.peer), stored.value)
        for forged in (b"", seal(attacker.key, "gpu", b"mine", sequence=1 << 60, wall_s=table.wall_s())):
            assert await attacker.node.queries.put(record_key("gpu", owner.peer), forged) == 0
        kept = victim.node.values.get(record_key("gpu", owner.peer), table.wall_s())
        assert kept is None or unseal(kept.value).is_withdrawn
    assert await seeker.directory.query("gpu") == []


async def test_a_sequence_number_grows_over_a_restart_even_when_the_clock_went_back(
    autojump_clock: MockClock,
) -> None:
    table, nodes = await table_of(20)
    await nodes[3].directory.advertise("gpu", b"first")
    (first,) = await nodes[9].directory.query("gpu")
    again = Neighbour(table, 4)  # the same key, nothing remembered
    assert again.peer == nodes[3].peer
    again.node.wall_s = lambda: table.wall_s() - 600
    again.node.serves(nodes[0].peer)
    await again.directory.advertise("gpu", b"second")
    (second,) = await nodes[9].directory.query("gpu")
    assert second.data == b"second"
    assert second.sequence > first.sequence


async def test_peers_that_have_an_old_value_are_given_the_new_one(autojump_clock: MockClock) -> None:
    table, nodes = await table_of(8)  # fewer than a quorum, so that all are asked
    owner, place = nodes[0], record_key("gpu", nodes[0].peer)
    await owner.directory.advertise("gpu", b"old")
    absent = [one for one in nodes if one is not owner][:3]
    for one in absent:
        one.is_up = False
    await owner.directory.advertise("gpu", b"new")
    for one in absent:
        one.is_up = True
        owner.node.serves(one.peer)
        nodes[7].node.serves(one.peer)
    assert [one.data for one in await nodes[7].directory.query("gpu")] == [b"new"]
    for one in absent:
        kept = one.node.values.get(place, table.wall_s())
        assert kept is not None
        assert unseal(kept.value).data == b"new"


async def test_advertisements_are_renewed_and_reach_those_who_came_later(autojump_clock: MockClock) -> None:
    table = VirtualTable(12)
    owner = table.nodes[0]
    await owner.directory.advertise("gpu", b"early")  # nobody is around yet
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owner.directory.renew)
        await table.introduce()
        await trio.sleep(120)
        assert [one.data for one in await table.nodes[5].directory.query("gpu")] == [b"early"]
        await trio.sleep(10 * RENEW_S)  # beyond the life of the first record
        assert [one.data for one in await table.nodes[5].directory.query("gpu")] == [b"early"]
        nursery.cancel_scope.cancel()


async def test_an_owner_who_is_gone_is_forgotten(autojump_clock: MockClock) -> None:
    _, nodes = await table_of(12)
    await nodes[0].directory.advertise("gpu", b"data")
    nodes[0].is_up = False
    await trio.sleep(50 * 3600)
    assert await nodes[5].directory.query("gpu") == []


async def test_peers_that_do_not_answer_leave_the_table(autojump_clock: MockClock) -> None:
    _, nodes = await table_of(10)
    gone = nodes[4]
    assert any(gone.peer in one.node.table for one in nodes)
    gone.is_up = False
    async with trio.open_nursery() as nursery:
        for one in nodes:
            if one is not gone:
                nursery.start_soon(one.node.tend)
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert not any(gone.peer in one.node.table for one in nodes if one is not gone)
    assert len(nodes[0].node.table) >= 5


async def test_nobody_provides_for_somebody_else(autojump_clock: MockClock) -> None:
    _, (one, two, three) = await table_of(3)
    key = provider_key("x")
    message = Message(Kind.ADD_PROVIDER, key, providers=(Contact(two.peer), Contact(three.peer)))
    assert one.node.answer(two.peer, message) is None
    assert [contact.peer for contact in await three.node.queries.providers(key, 9)] == [two.peer]


async def test_addresses_that_mean_nothing_here_are_neither_kept_nor_believed(autojump_clock: MockClock) -> None:
    _, (one, two, three) = await table_of(3)
    key, loopback = provider_key("x"), Multiaddr("/ip4/127.0.0.1/tcp/9000")
    one.node.answer(two.peer, Message(Kind.ADD_PROVIDER, key, providers=(Contact(two.peer, (loopback, two.address)),)))
    (kept,) = one.node.providers.get(key, trio.current_time(), 9, one.node.rng)
    assert kept.addresses == (two.address,)
    three.node.providers.add(key, three.peer, (loopback,), trio.current_time())
    found = {contact.peer: contact for contact in await one.node.queries.providers(key, 9)}
    assert loopback not in found[three.peer].addresses


async def test_requests_that_make_no_sense_are_refused_and_a_flood_is_stopped(autojump_clock: MockClock) -> None:
    _, (one, two) = await table_of(2)
    for request in (
        Message(Kind.FIND_NODE),
        Message(Kind.GET_VALUE, b"x" * 300),
        Message(Kind.PUT_VALUE, b"/pk/x"),
        Message(Kind.ADD_PROVIDER, b"x" * 81),
    ):
        with pytest.raises(BadFrame):
            one.node.answer(two.peer, request)
    ping = Message(Kind.PING)
    assert one.node.answer(two.peer, ping) == ping
    for _ in range(REQUESTS_AT_ONCE - 100):
        assert one.node.answer(two.peer, ping) == ping
    with pytest.raises(BadFrame, match="too many"):
        _flood(one, two.peer, ping)
    await trio.sleep(1.0)
    assert one.node.answer(two.peer, ping) == ping


def _flood(one: Neighbour, asker: PeerID, message: Message) -> None:
    for _ in range(200):
        one.node.answer(asker, message)


async def test_an_answer_names_neither_the_asker_nor_ourselves_nor_peers_without_addresses(
    autojump_clock: MockClock,
) -> None:
    _, nodes = await table_of(12)
    stranger = Neighbour(VirtualTable(0, seed=9), 1)  # nobody knows where it is
    nodes[0].node.serves(stranger.peer)
    for key in (peer_bytes(nodes[0].peer), peer_bytes(nodes[1].peer), peer_bytes(stranger.peer)):
        answer = nodes[0].node.answer(nodes[1].peer, Message(Kind.FIND_NODE, key))
        assert answer is not None
        named = {contact.peer for contact in answer.closer}
        assert not named & {nodes[0].peer, nodes[1].peer, stranger.peer}
        assert named


async def test_what_may_be_advertised_is_bounded(autojump_clock: MockClock) -> None:
    table = VirtualTable(1)
    directory = table.nodes[0].directory
    with pytest.raises(MessageTooLarge):
        await directory.advertise("gpu", b"x" * (MAX_DATA_BYTES + 1))
    for key in ("", "x" * 129, "a\nb"):
        with pytest.raises(BadInput):
            await directory.advertise(key, b"")
        with pytest.raises(BadInput):
            await directory.query(key)
    for number in range(MAX_OWN_KEYS):
        await directory.advertise(f"key-{number}", b"")
    with pytest.raises(BadInput):
        await directory.advertise("one more", b"")
    assert [one.data for one in await directory.query("key-0")] == [b""]
    await directory.withdraw("unknown")
