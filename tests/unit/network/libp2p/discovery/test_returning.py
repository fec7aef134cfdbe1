"""Tests of :mod:`dms.network.libp2p.discovery.returning` and of the file of known peers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from multiaddr import Multiaddr
from trio.testing import MockClock

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.errors import PeerUnreachable
from dms.network.known_good import MAX_FAILURES, GoodPeers
from dms.network.libp2p.discovery.peers_file import WRITE_S, PeersFile
from dms.network.libp2p.discovery.returning import ALONE_BELOW, AT_ONCE, Returning
from dms.types.ids import PeerID

NOW_S = 1_800_000_000.0
HERE = Multiaddr("/ip4/10.0.0.1/tcp/9000")
PEERS = [
    peer_id_of(PrivateKey(KeyType.ED25519, hashlib.sha256(b"%d" % number).digest()).public) for number in range(30)
]
OWN = PEERS[-1]


class World:
    """Whom a node knows, who answers, and whom it is connected to."""

    def __init__(self, known: int, path: Path | None = None) -> None:
        self.good = GoodPeers()
        for number, one in enumerate(PEERS[:known]):
            self.good.confirmed(one, HERE, NOW_S - number)
        self.answering: set[PeerID] = set()
        self.connected: list[PeerID] = []
        self.dialled: list[PeerID] = []
        self.file = PeersFile(path, self.good)
        self.returning = Returning(
            OWN,
            self.good,
            self.file,
            connected=lambda: list(self.connected),
            serves_dht=lambda peer: peer == PEERS[0],
            dial=self.dial,
            wall_s=lambda: NOW_S + trio.current_time(),
        )

    async def dial(self, peer: PeerID, _addresses: Sequence[Multiaddr]) -> None:
        self.dialled.append(peer)
        await trio.sleep(0.1)
        if peer not in self.answering:
            raise PeerUnreachable
        self.connected.append(peer)


async def test_the_best_are_dialled_first_and_the_next_best_while_too_few_answer(autojump_clock: MockClock) -> None:
    world = World(20)
    world.answering = set(PEERS[10:16])
    with trio.move_on_after(200):
        await world.returning.keep_company()
    assert world.dialled[:AT_ONCE] == sorted(PEERS[:AT_ONCE], key=world.dialled.index)
    assert set(world.dialled[:AT_ONCE]) == set(PEERS[:AT_ONCE])
    assert len(world.connected) >= ALONE_BELOW
    assert not set(PEERS[16:]) & set(world.dialled), "enough had answered"


async def test_who_is_not_alone_dials_nobody_until_connections_are_lost(autojump_clock: MockClock) -> None:
    world = World(10)
    world.connected = PEERS[20 : 20 + ALONE_BELOW]
    world.answering = set(PEERS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.returning.keep_company)
        await trio.sleep(7200)
        assert world.dialled == []
        world.connected.pop()
        world.returning.lost_one()
        await trio.sleep(10)
        assert set(world.dialled) == set(PEERS[:AT_ONCE])
        nursery.cancel_scope.cancel()


async def test_a_night_without_network_makes_nobody_forgotten(autojump_clock: MockClock) -> None:
    world = World(10)
    with trio.move_on_after(12 * 3600):
        await world.returning.keep_company()
    assert len(world.good) == 10
    assert len(world.dialled) < 12 * 3600 / 200 * AT_ONCE, "pauses grow"
    world.connected = [PEERS[20]]  # the network is back, and they still do not answer
    with trio.move_on_after(MAX_FAILURES * 1000):
        await world.returning.keep_company()
    assert len(world.good) == 0


async def test_what_is_known_survives_a_restart_and_is_private(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "peers.json"
    world = World(3, path)
    world.connected = PEERS[:2]
    with trio.move_on_after(WRITE_S / 2):
        await world.returning.keep_file()  # written at the end, too
    assert path.stat().st_mode & 0o777 == 0o600
    again = GoodPeers()
    await PeersFile(path, again).load(NOW_S)
    assert [one.peer for one in again.best(9, NOW_S)] == [one.peer for one in world.good.best(9, NOW_S)]
    assert [one.is_server for one in again.best(9, NOW_S)] == [True, False, False]


async def test_a_disk_that_fails_only_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "peers.json").mkdir()
    file = PeersFile(tmp_path / "peers.json", World(3).good)
    await file.load(NOW_S)
    await file.keep(NOW_S)
    assert "cannot be read" in caplog.text
    assert "cannot be written" in caplog.text
    await PeersFile(tmp_path / "absent.json", GoodPeers()).load(NOW_S)
