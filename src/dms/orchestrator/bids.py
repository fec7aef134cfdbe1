"""One round of bids: ask the network, listen, check what comes (``spec/orchestration.md`` 5.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio

from dms.actor.behaviour import Message
from dms.actor.handle import handle_of_peer
from dms.ensemble.config import EnsembleConfig, LocationConstraints
from dms.ensemble.requirements import (
    node_capability,
    node_executors,
    node_needs_privilege,
    node_parts,
    node_ports,
    node_resources,
)
from dms.orchestrator import messages
from dms.orchestrator.bid import Bid, verify_bid
from dms.orchestrator.context import Context
from dms.orchestrator.errors import InvalidBid
from dms.orchestrator.machine import BID_WINDOW_S, wanted_nodes
from dms.orchestrator.matching import Unmatched, match
from dms.orchestrator.state import DeploymentState
from dms.types.errors import DMSError
from dms.types.ids import PeerID

QUIET_S = 0.12
"""Once every node has a feasible bid, wait until no further bid came for this long."""
GLANCE_WORK = 500
"""While bids come in it only matters whether they suffice, not how well; see :mod:`dms.orchestrator.matching`."""
MAX_BIDS_PER_NODE = 8
MAX_REFUSALS_TOLD = 50
"""Refused bids of one round that go into the deployment's events: others must not fill our disk."""


async def collect_bids(ctx: Context, state: DeploymentState, nonce: str) -> tuple[Bid, ...]:
    """One round: ask, and listen until the window closes, or all is found and the network has gone quiet."""
    wanted = wanted_nodes(ctx.config)
    per_node: dict[str, dict[PeerID, Bid]] = {w.node_id: {} for w in wanted}
    pinned = {w.node_id: w.pinned for w in wanted}
    arrived, refusals = trio.Event(), 0

    async def on_bid(message: Message[Any]) -> None:
        nonlocal arrived, refusals
        try:
            bid = verify_bid(
                message.envelope.msg, ensemble=ctx.ensemble, nonce=nonce, now_ns=ctx.actor.security.now_ns()
            )
            _check_bid(bid, message, per_node, pinned, state.excluded)
        except InvalidBid as exc:
            refusals += 1
            if refusals <= MAX_REFUSALS_TOLD:
                await ctx.note("bid_refused", {"peer": message.peer, "reason": exc.message})
            return
        is_new = bid.peer not in per_node[bid.node_id]
        per_node[bid.node_id][bid.peer] = bid
        arrived.set()
        arrived = trio.Event()
        if is_new:
            await ctx.note("bid_received", describe_bid(bid))

    ctx.actor.on(messages.BID, on_bid)
    try:
        with trio.move_on_after(BID_WINDOW_S):
            await _request_bids(ctx, state, nonce)
            result: object = Unmatched()
            while True:
                if isinstance(result, Unmatched):
                    heard = [bid for bids in per_node.values() for bid in bids.values()]
                    result = match(wanted, heard, work=GLANCE_WORK, explains=False)
                if isinstance(result, Unmatched):
                    await arrived.wait()
                    if result.contended:
                        await trio.sleep(QUIET_S)  # the search is long then: not every single bid is worth one
                    continue
                with trio.move_on_after(QUIET_S) as quiet:
                    await arrived.wait()
                if quiet.cancelled_caught:
                    break
    finally:
        ctx.actor.off(messages.BID)
    return tuple(bid for bids in per_node.values() for bid in bids.values())


def describe_bid(bid: Bid) -> dict[str, object]:
    """A bid for people."""
    out: dict[str, object] = {"node": bid.node_id, "peer": bid.peer}
    if bid.free is not None:
        out |= {"free_cores": bid.free.cpu.cores, "free_ram_bytes": bid.free.ram.size}
    if bid.location.country:
        out["country"] = bid.location.country
    return out


def _check_bid(
    bid: Bid,
    message: Message[Any],
    per_node: dict[str, dict[PeerID, Bid]],
    pinned: dict[str, PeerID | None],
    excluded: tuple[PeerID, ...],
) -> None:
    if bid.peer != message.peer or bid.handle.did != message.sender.did:
        raise InvalidBid("the bid is not that of its sender")
    if bid.node_id not in per_node:
        raise InvalidBid(f"unknown node {bid.node_id}")
    if pinned[bid.node_id] and bid.peer != pinned[bid.node_id]:
        raise InvalidBid(f"node {bid.node_id} is pinned to another peer")
    if bid.peer in excluded:
        raise InvalidBid("this peer is excluded")
    bids = per_node[bid.node_id]
    if len(bids) >= MAX_BIDS_PER_NODE and bid.peer not in bids:
        raise InvalidBid(f"there are enough bids for node {bid.node_id}")


async def _request_bids(ctx: Context, state: DeploymentState, nonce: str) -> None:
    excluded = tuple(dict.fromkeys((*ctx.config.v1.exclude_peers, *state.excluded)))
    open_nodes = [w.node_id for w in wanted_nodes(ctx.config) if not w.pinned]
    async with trio.open_nursery() as nursery:
        if open_nodes:
            request = _bid_request(ctx, open_nodes, nonce, excluded)
            nursery.start_soon(_publish_request, ctx, request)
        by_peer: dict[PeerID, list[str]] = {}
        for wanted in wanted_nodes(ctx.config):
            if wanted.pinned:
                by_peer.setdefault(wanted.pinned, []).append(wanted.node_id)
        for peer, nodes in by_peer.items():
            nursery.start_soon(_ask_peer, ctx, peer, _bid_request(ctx, nodes, nonce, ()))


async def _publish_request(ctx: Context, request: messages.BidRequest) -> None:
    await ctx.actor.publish(
        messages.BID_REQUEST_TOPIC, messages.BID_REQUEST, request, timeout_s=BID_WINDOW_S, reply_to=messages.BID
    )


async def _ask_peer(ctx: Context, peer: PeerID, request: messages.BidRequest) -> None:
    try:
        await ctx.actor.send(
            handle_of_peer(peer), messages.BID_REQUEST, request, timeout_s=BID_WINDOW_S, reply_to=messages.BID
        )
    except DMSError as exc:
        await ctx.note("peer_unreachable", {"peer": peer, "reason": exc.message})


def _bid_request(ctx: Context, nodes: Iterable[str], nonce: str, excluded: tuple[PeerID, ...]) -> messages.BidRequest:
    return messages.BidRequest(
        id=ctx.ensemble,
        nonce=nonce,
        request=tuple(messages.VersionedNodeRequest(v1=_node_request(ctx.config, node)) for node in nodes),
        peer_exclusion=excluded,
    )


def _node_request(config: EnsembleConfig, node: str) -> messages.NodeRequest:
    static, dynamic = node_ports(config, node)
    return messages.NodeRequest(
        node_id=node,
        executors=node_executors(config, node),
        resources=node_resources(config, node),
        location=config.v1.nodes[node].location or LocationConstraints(),
        public_ports=messages.PublicPorts(static=static, dynamic=dynamic),
        general=messages.GeneralRequirements(privileged_docker=node_needs_privilege(config, node)),
        allocations=node_parts(config, node),
        capability=node_capability(config, node),
    )
