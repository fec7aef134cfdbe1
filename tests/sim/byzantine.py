"""Machines that do not keep to the rules: they bid and refuse, bid and fall silent, lie of what they have, and send again
what others sent."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, Final

import trio

from dms.actor.behaviour import Message
from dms.node.bidding import Offerings
from dms.orchestrator import messages
from dms.testing.nodes import FOUR_CORES, SimulatedNode
from dms.types.errors import DMSError
from dms.types.ids import PeerID

MAX_CAPTURED: Final = 50
REPLAY_EVERY_S: Final = 2.0


def corrupt(node: SimulatedNode, move: str) -> None:
    """Let a node that has just begun a life misbehave."""
    root = node.node.root

    async def silence(message: Message[Any]) -> None:
        await trio.sleep_forever()

    async def refuse_commit(message: Message[Any]) -> messages.CommitReply:
        return messages.CommitReply(ok=False, error="changed my mind")

    async def refuse_allocate(message: Message[Any]) -> messages.AllocateReply:
        return messages.AllocateReply(ok=False, error="changed my mind")

    match move:
        case "refuse_commit":
            root.on(messages.COMMIT, refuse_commit, payload=messages.CommitRequest)
        case "refuse_allocate":
            root.on(messages.ALLOCATE, refuse_allocate, payload=messages.AllocateRequest)
        case "silent_commit":
            root.on(messages.COMMIT, silence, payload=messages.CommitRequest)
        case "silent_allocate":
            root.on(messages.ALLOCATE, silence, payload=messages.AllocateRequest)
        case "lie":
            _lie(node)
        case "replay":
            root.start_soon(_replay, node)
        case _:
            raise AssertionError(move)


def _lie(node: SimulatedNode) -> None:
    provider = node.node.provider
    truth = provider.offerings

    async def offerings() -> Offerings | None:
        offer = await truth()
        return None if offer is None else replace(offer, free=FOUR_CORES, machine=FOUR_CORES)

    setattr(provider, "offerings", offerings)  # noqa: B010  a method, which it is not for mypy to change


async def _replay(node: SimulatedNode) -> None:
    """Capture what arrives here, and send it to anybody, ourselves as the sender."""
    network, captured = node.cluster.network, list[tuple[str, bytes]]()
    rng = random.Random(f"{network.seed}/{node.name}/replay")

    def watch(_sender: PeerID, receiver: PeerID, where: str, data: bytes) -> None:
        if receiver == node.peer and len(captured) < MAX_CAPTURED:
            captured.append((where, data))

    network.watchers.append(watch)
    try:
        while True:
            await trio.sleep(REPLAY_EVERY_S)
            if not captured:
                continue
            where, data = rng.choice(captured)
            try:
                if where.startswith("/nunet"):
                    await node.network.publish(where, data)
                await node.network.send(rng.choice(network.nodes).peer_id, where, data, timeout_s=REPLAY_EVERY_S)
            except DMSError:
                continue
    finally:
        network.watchers.remove(watch)
