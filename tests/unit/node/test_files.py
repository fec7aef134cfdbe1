"""Files between two nodes: behaviours as they travel, on real volumes and the network in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.node.file_payloads import FileReply, SendRequest
from dms.node.hosting import HostingOptions
from dms.storage.prepare import Volumes
from dms.storage.service import StorageOptions, open_volumes
from dms.store import Store
from dms.testing.actors import key_of
from dms.testing.node_user import UserClient
from dms.testing.nodes import Cluster, SimulatedNode
from dms.types.errors import DMSError

Json = dict[str, Any]
CONTENT = random.Random(3).randbytes(700_000)


@dataclass
class Machine:
    node: SimulatedNode
    volumes: Volumes

    async def ask(self, behaviour: str, **payload: object) -> Json:
        return await self.node.user.invoke(f"/dms/volume/{behaviour}", payload or None, Json)

    async def directory(self, name: str) -> Path:
        return next(v.path for v in await self.volumes.controller.list() if v.record.label == name)

    async def transfers(self) -> list[Json]:
        found: list[Json] = (await self.ask("transfers")).get("transfers", [])
        return found


@pytest.fixture
async def machines(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> AsyncIterator[tuple[Machine, Machine]]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await Store.open(None))
        made = []
        for name in ("ann", "bob"):
            volumes = await stack.enter_async_context(open_volumes(store, tmp_path / name, StorageOptions()))
            made.append(Machine(await cluster.start(name, hosting=HostingOptions(volumes=volumes)), volumes))
            if name == "ann":
                store = await stack.enter_async_context(await Store.open(None))
        await made[0].ask("create", name="results")
        (await made[0].directory("results") / "model.bin").write_bytes(CONTENT)
        yield made[0], made[1]


async def ended(machine: Machine) -> Json:
    """The last transfer, once it is over."""
    with trio.fail_after(60):
        while (told := (await machine.transfers())[-1])["state"] == "running":  # noqa: ASYNC110  it tells nobody
            await trio.sleep(0.1)
    return told


async def send(ann: Machine, bob: Machine, *, path: str = "new/model.bin", **more: object) -> Json:
    found = await ann.ask("file", name="results", path="model.bin")
    wanted = {"name": "copies", "path": path, "size": found["size"], "version": found["version"]}
    granted = await bob.ask("receive", **(wanted | {"peer": ann.node.peer} | more))
    assert granted["OK"], granted
    begun = await ann.ask(
        "send", name="results", path="model.bin", version=found["version"], peer=bob.node.peer, ticket=granted["ticket"]
    )
    told = await ended(ann)
    assert told["id"] == begun["id"]
    return told


async def test_a_file_goes_from_one_nodes_volume_to_anothers(
    autojump_clock: MockClock, machines: tuple[Machine, Machine]
) -> None:
    ann, bob = machines

    told = await send(ann, bob)

    assert (told["state"], told["done"], told["direction"]) == ("done", len(CONTENT), "out")
    assert ((await bob.directory("copies")) / "new/model.bin").read_bytes() == CONTENT
    (incoming,) = await bob.transfers()
    assert (incoming["state"], incoming["direction"], incoming["peer"]) == ("done", "in", ann.node.peer)


async def test_what_cannot_be_is_refused_with_the_reason(
    autojump_clock: MockClock, machines: tuple[Machine, Machine]
) -> None:
    ann, bob = machines
    peer = ann.node.peer

    assert (await ann.ask("file", name="results", path="absent"))["code"] == "source_not_found"
    assert (await ann.ask("file", name="nothing", path="x"))["code"] == "volume_not_found"
    for path, size, code in (("../x", 1, "invalid_volume_name"), ("x", -1, "storage_too_large")):
        reply = await bob.ask("receive", name="copies", path=path, size=size, version="", peer=peer)
        assert (reply["OK"], reply["code"]) == (False, code)
    reply = await bob.ask("receive", name="copies", path="x", size=1, version="", peer="nobody")
    assert reply["code"] == "invalid_address"
    reply = await bob.ask("receive", name="copies", path="x", size=1, version="v" * 300, peer=peer)
    assert reply["code"] == "bad_input"


async def test_without_a_ticket_nothing_is_taken(autojump_clock: MockClock, machines: tuple[Machine, Machine]) -> None:
    ann, bob = machines
    await ann.ask("send", name="results", path="model.bin", version="", peer=bob.node.peer, ticket="guessed")
    assert (await ended(ann))["error"] == "no such ticket"
    assert await bob.transfers() == []


async def test_whoever_may_not_use_volumes_there_gets_no_ticket(
    autojump_clock: MockClock, cluster: Cluster, machines: tuple[Machine, Machine]
) -> None:
    ann, bob = machines
    stranger = UserClient(bob.node, key_of("stranger"))
    with pytest.raises(DMSError):
        await stranger.invoke(
            "/dms/volume/receive",
            {"name": "copies", "path": "x", "size": 1, "version": "", "peer": ann.node.peer},
            Json,
        )


def test_tickets_are_in_no_log() -> None:
    assert "secret" not in repr(SendRequest(ticket="secret")) + repr(FileReply(ok=True, ticket="secret"))
