"""The hash table with js-libp2p in it: what one puts, provides or is, the other finds."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import AsyncIterator

import pytest
import trio
from tests.interop.javascript import JavaScriptFailed, Remote
from tests.interop.nodes import NodeMaker, Pair, connect, python_node, until

from dms.identity.keys import KeyType, PrivateKey
from dms.network.kademlia.advertisements import record_key, seal, unseal
from dms.network.kademlia.keys import provider_key
from dms.network.libp2p import Libp2pNetwork
from dms.types.ids import PeerID

pytestmark = pytest.mark.interop

SEED = bytes(range(32))
DATA = b"four GPUs"

_numbers = itertools.count()


def new_key() -> str:
    """A key under which nobody advertises."""
    return f"interop {next(_numbers)}"


def cid_of(key: str) -> str:
    """The content id (version 1, raw) whose providers are those of a key."""
    return "b" + base64.b32encode(b"\x01\x55" + provider_key(key)).decode().lower().rstrip("=")


async def found_by(remote: Remote, peer: PeerID) -> list[str]:
    """Where it finds a peer; it may take a moment until those whom it asks have checked that peer."""
    with trio.fail_after(15):
        while True:
            try:
                return list((await remote.do("findPeer", peer=peer))["addresses"])
            except JavaScriptFailed:
                await trio.sleep(0.2)


def knows(python: Libp2pNetwork, remote: Remote) -> bool:
    """Whether it is in the routing table."""
    return any(entry.peer == remote.peer for entry in python.directory.state().entries)


@pytest.fixture
async def table(javascript: NodeMaker, dialler: str) -> AsyncIterator[Pair]:
    """A pair of which each has the other in its routing table."""
    async with python_node() as python, javascript("--seed", SEED.hex()).attached() as remote:
        await connect(python, remote, dialler)
        await until(lambda: knows(python, remote))
        await remote.event("identified", peer=python.peer_id)
        yield Pair(python, remote)


@pytest.mark.row("Hash table: put and provide in Python, get and find providers in JavaScript")
async def test_what_python_advertises_is_found_in_javascript(table: Pair) -> None:
    key = new_key()
    await table.python.directory.advertise(key, DATA)
    place = record_key(key, table.python.peer_id)
    values: list[str] = []
    with trio.fail_after(15):
        while not values:
            values = (await table.javascript.do("get", key=place.hex()))["values"]
    record = unseal(bytes.fromhex(values[0]))
    assert (record.peer, record.data, record.key) == (table.python.peer_id, DATA, key)
    assert table.python.peer_id in (await table.javascript.do("providers", cid=cid_of(key)))["peers"]


@pytest.mark.row("Hash table: put and provide in JavaScript, get and find providers in Python")
async def test_what_javascript_advertises_is_found_in_python(table: Pair) -> None:
    key, owner = new_key(), PeerID(table.javascript.peer)
    value = seal(PrivateKey(KeyType.ED25519, SEED), key, DATA, sequence=7, wall_s=time.time())
    await table.javascript.do("put", key=record_key(key, owner).hex(), value=value.hex())
    await table.javascript.do("provide", cid=cid_of(key))
    (found,) = await table.python.directory.query(key)
    assert (found.peer, found.data, found.sequence) == (owner, DATA, 7)


@pytest.mark.row("Hash table: where a third peer listens")
async def test_each_finds_a_third_peer_through_the_other(table: Pair, javascript: NodeMaker, dialler: str) -> None:
    async with javascript(number=3).attached() as third:
        await third.do("dial", address=table.javascript.address)
        found: tuple[str, ...] = ()
        with trio.fail_after(15):
            while not found:
                found = await table.python.directory.find(PeerID(third.peer))
        assert any(third.address.startswith(address) for address in found)
        addresses = await found_by(third, table.python.peer_id)
        assert any(table.python.listen_addresses[0].startswith(address) for address in addresses)
