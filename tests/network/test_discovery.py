"""How real nodes find each other; loopback sockets."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from dms.network import PeerChange, PeerUnreachable, StreamEnded
from dms.network.directory import DHTMode
from dms.network.kademlia.keys import peer_bytes
from dms.network.kademlia.messages import Kind, Message, decode_message
from dms.network.libp2p import Libp2pNetwork
from dms.network.libp2p.connections.names import id_of
from dms.network.protobuf import encode_varint
from dms.types.ids import PeerID

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


def node(
    number: int,
    *bootstrap: str,
    listen: tuple[str, ...] = LOOPBACK,
    peers_file: Path | None = None,
    network_id: str = "",
    dht_mode: DHTMode = DHTMode.AUTO,
    explore: bool = True,
) -> Libp2pNetwork:
    return Libp2pNetwork(
        seed=(number + (1 << 100)).to_bytes(32, "big"),
        listen=listen,
        bootstrap=bootstrap,
        peers_file=peers_file,
        network_id=network_id,
        dht_mode=dht_mode,
        explore=explore,
    )


async def connected(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    with trio.fail_after(15):
        while not (a.is_connected(b.peer_id) and b.is_connected(a.peer_id)):  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_nodes_with_the_same_bootstrap_peer_connect_to_each_other() -> None:
    hub = node(1)
    async with hub.run():
        nodes = [node(number, *hub.listen_addresses) for number in (2, 3, 4)]
        async with nodes[0].run(), nodes[1].run(), nodes[2].run():
            for one in nodes:
                for other in nodes:
                    if one is not other:
                        await connected(one, other)


async def test_a_bootstrap_peer_that_comes_late_or_comes_back_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    hub = node(5, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    eager = node(6, f"/ip4/127.0.0.1/tcp/{port}/p2p/{hub.peer_id}")
    async with eager.run():
        for _ in range(2):
            async with hub.run():
                await connected(eager, hub)


async def test_a_bootstrap_address_that_is_unusable_only_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="dms.network")
    broken = ("/dnsaddr/does-not-exist.invalid/p2p/12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3", "nonsense")
    async with node(7, *broken).run():
        with trio.fail_after(15):
            while not all(address in caplog.text for address in broken):  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_addresses_that_are_not_tcp_are_skipped_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="dms.network")
    quic = "/ip4/127.0.0.1/udp/0/quic-v1"
    async with node(8, listen=(quic, *LOOPBACK)).run():
        pass
    assert quic in caplog.text


async def test_a_node_finds_its_network_again_without_bootstrap_peers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    hub = node(11, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    file = tmp_path / "peers.json"
    async with hub.run():
        first, met = node(12, *hub.listen_addresses, peers_file=file), trio.Event()
        first.listen(lambda event: met.set() if event.change is PeerChange.IDENTIFIED else None)
        async with first.run():
            with trio.fail_after(15):
                await met.wait()
            assert hub._live is not None
            await hub._live.host.announce()
            with trio.fail_after(15):
                while first.counters()["peers identified"] < 2:  # noqa: ASYNC110
                    await trio.sleep(0.005)
        assert file.stat().st_mode & 0o777 == 0o600
        (kept,) = json.loads(file.read_text())["peers"]
        assert (kept["peer"], kept["successes"], kept["server"]) == (hub.peer_id, 1, True)
        again = node(12, peers_file=file)
        async with again.run():
            await connected(again, hub)
        other = node(12, peers_file=file, network_id="another")
        async with other.run():
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert not other.peers()


async def test_nodes_of_two_networks_do_not_learn_of_each_other() -> None:
    """They may be told to connect, and message each other; but nothing leads on from there."""
    acme, lab = node(13, network_id="acme"), node(14, network_id="lab")
    async with acme.run(), lab.run():
        second_acme = node(15, *acme.listen_addresses, network_id="acme")
        async with second_acme.run():
            await connected(second_acme, acme)
            await lab.connect(acme.listen_addresses[0])
            heard: list[bytes] = []
            everything = trio.Event()

            async def hear(_publisher: PeerID, data: bytes) -> None:
                heard.append(data)
                everything.set()

            async def hear_foreign(_publisher: PeerID, data: bytes) -> None:
                heard.append(b"foreign " + data)

            await second_acme.subscribe("/nunet/hello", hear)
            await lab.subscribe("/nunet/hello", hear_foreign)
            with trio.fail_after(15):
                while not heard:
                    await acme.publish("/nunet/hello", b"hi")
                    with trio.move_on_after(0.5):
                        await everything.wait()
            assert set(heard) == {b"hi"}
            assert list(acme.scores()[second_acme.peer_id].topics) in ([], ["/nunet/hello"])

            for one, other in ((lab, acme), (acme, lab)):
                assert other.peer_id not in {entry.peer for entry in one.directory.state().entries}
            assert second_acme.peer_id in {entry.peer for entry in acme.directory.state().entries}
            await acme.directory.advertise("gpu", b"ours")
            assert [ad.data for ad in await second_acme.directory.query("gpu")] == [b"ours"]
            assert await lab.directory.query("gpu") == []
            with pytest.raises(PeerUnreachable):
                await lab.connect(second_acme.peer_id, timeout_s=2.0)
            assert not lab.is_connected(second_acme.peer_id)


async def test_a_node_that_only_asks_stands_in_no_routing_table() -> None:
    hub = node(16)
    async with hub.run():
        client = node(17, *hub.listen_addresses, dht_mode=DHTMode.CLIENT)
        async with client.run():
            with trio.fail_after(15):
                while not client.directory.state().entries:  # noqa: ASYNC110
                    await trio.sleep(0.005)
            assert not client.directory.state().is_serving
            await client.directory.advertise("gpu", b"from a client")
            assert [ad.data for ad in await hub.directory.query("gpu")] == [b"from a client"]
            assert hub.directory.state().entries == []


async def test_any_peer_is_found_through_the_hash_table_beyond_those_that_are_connected() -> None:
    """A chain: nobody that the first is connected to is connected to the last."""
    chain: list[Libp2pNetwork] = []
    async with AsyncExitStack() as stack:
        for number in range(5):
            one = node(20 + number, *(chain[-1].listen_addresses if chain else ()), explore=False)
            await stack.enter_async_context(one.run())
            chain.append(one)
        with trio.fail_after(15):
            while [len(one.directory.state().entries) for one in chain] != [1, 2, 2, 2, 1]:  # noqa: ASYNC110
                await trio.sleep(0.005)
        got = trio.Event()

        async def receive(_sender: PeerID, _data: bytes) -> None:
            got.set()

        chain[-1].handle("actor/root/messages/0.0.1", receive)
        await chain[0].send(chain[-1].peer_id, "actor/root/messages/0.0.1", b"hello")
        with trio.fail_after(5):
            await got.wait()


async def test_a_node_that_nobody_can_reach_serves_no_longer_and_says_so() -> None:
    hub = node(30)
    async with hub.run():
        moving = node(31, *hub.listen_addresses)
        async with moving.run():

            async def listed(expected: list[PeerID]) -> None:
                with trio.fail_after(15):
                    while [entry.peer for entry in hub.directory.state().entries] != expected:  # noqa: ASYNC110
                        await trio.sleep(0.005)

            dht = moving._finding.dht
            await listed([moving.peer_id])
            await dht.reachable(False)
            assert not moving.directory.state().is_serving
            await listed([])
            assert await moving.directory.find(hub.peer_id), "it still asks"
            await dht.reachable(None)
            await listed([moving.peer_id])


async def test_many_who_want_the_same_peer_at_once_share_one_search_and_one_connection() -> None:
    hub, seeker, wanted = (node(number, explore=False) for number in (32, 33, 34))
    async with hub.run(), wanted.run(), seeker.run():
        await seeker.connect(hub.listen_addresses[0])
        await wanted.connect(hub.listen_addresses[0])
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(seeker.connect, wanted.peer_id)
        assert seeker.is_connected(wanted.peer_id)
        assert wanted.counters()["peers connected"] == 2  # the hub, and the seeker once
        assert seeker._live is not None
        assert len(seeker._live.swarm.get_connections(id_of(wanted.peer_id))) == 1


async def test_a_stream_of_the_hash_table_carries_many_requests_and_ends_at_nonsense() -> None:
    """As go does it: one stream for all questions to a peer; answers come in order."""
    hub, asker = node(35), node(36)
    async with hub.run(), asker.run():
        await asker.connect(hub.listen_addresses[0])
        stream = await asker.streams.open(hub.peer_id, "/nunet/kad/1.0.0")
        target = peer_bytes(asker.peer_id)
        requests = [Message(Kind.PING), Message(Kind.FIND_NODE, target), Message(Kind.GET_PROVIDERS, target)]
        await stream.write(b"".join(encode_varint(len(one.encode())) + one.encode() for one in requests))
        for request in requests:
            length = (await stream.read(1))[0]
            assert length < 0x80
            data = b""
            while len(data) < length:
                data += await stream.read(length - len(data))
            answer = decode_message(data)
            assert (answer.kind, answer.key) == (request.kind, request.key)
        await stream.write(encode_varint(1 << 24))
        with trio.fail_after(15), pytest.raises(StreamEnded):
            await stream.read(1)
        assert asker.is_connected(hub.peer_id)
