"""Nodes of ours beside those in JavaScript."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from tests.interop.javascript import JavaScriptNode, Remote
from tests.interop.table import COLUMNS

from dms.network.libp2p import Libp2pNetwork
from dms.types.ids import PeerID

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
NodeMaker = Callable[..., JavaScriptNode]

_seeds = itertools.count(1 << 67)


@dataclass(frozen=True, slots=True)
class Pair:
    """A node of ours and one in JavaScript, connected."""

    python: Libp2pNetwork
    javascript: Remote


@asynccontextmanager
async def python_node(**options: object) -> AsyncIterator[Libp2pNetwork]:
    """A node of ours, running on loopback."""
    seed = next(_seeds).to_bytes(32, "big")
    network = Libp2pNetwork(**{"seed": seed, "listen": LOOPBACK, "explore": False, **options})  # type: ignore[arg-type]
    async with network.run():
        yield network


async def connect(python: Libp2pNetwork, javascript: Remote, dialler: str) -> None:
    """Have one of them dial the other."""
    if dialler == COLUMNS[0]:
        assert await python.connect(javascript.address) == javascript.peer
        return
    made = await javascript.do("dial", address=python.listen_addresses[0])
    assert made["peer"] == python.peer_id
    assert (made["encryption"], made["multiplexer"]) == ("/noise", "/yamux/1.0.0")
    await until(lambda: python.is_connected(PeerID(javascript.peer)))  # who dialled knows it a moment earlier


async def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Wait for something that real sockets bring about."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)
