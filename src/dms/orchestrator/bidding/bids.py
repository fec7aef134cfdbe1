"""Rounds of bids: ask the network, listen, check what comes, keep what is good (``spec/orchestration.md`` 5.3, 12.1).

A round asks for nothing that kept bids answer already. Nodes pinned to a peer are asked for there, all others by
broadcast, first of as many peers as bids are likely to be needed from (:mod:`dms.orchestrator.bidding.sampling`) and, while that
does not suffice, of ever more. A deployment that names the peers to ask asks just these, and broadcasts nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import trio

from dms.actor.behaviour import Message
from dms.actor.handle import handle_of_peer
from dms.orchestrator import messages
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.bidding.assignment import Assignment, assign
from dms.orchestrator.bidding.bid import Bid, affordable, for_each_node, verify_bid
from dms.orchestrator.bidding.refusals import is_refusal, read_refusals
from dms.orchestrator.bidding.sampling import draw, jitter_ms, network_size, share
from dms.orchestrator.bidding.whereabouts import judged
from dms.orchestrator.bidding.wishes import Kind, Wishes, requests_for, wishes_of
from dms.orchestrator.errors import InvalidBid
from dms.orchestrator.lifecycle.machine import BID_WINDOW_S
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.matching import Unmatched
from dms.types.errors import DMSError
from dms.types.ids import PeerID

STAGE_S = 1.25
"""If what was heard by then does not suffice, more peers are asked."""
QUIET_S = 0.12
"""Once every node has a feasible bid, wait until no further bid came for this long."""
GLANCE_WORK = 500
"""While bids come in it only matters whether they suffice, not how well; see :mod:`dms.orchestrator.matching`."""
PAUSE_PER_BID_S = 0.001
"""Between two such glances, for every bid there is: the more there are the longer one takes."""
MAX_BIDS_PER_NODE = 8
MIN_TARGET = 24
"""Bidders that a request is meant to find, at least."""
KEEP_S = 60.0
"""A bid is good for so long: what the peer has free changes."""
MAX_EXCLUDED = 500
"""Peers that a request names as not needed, beside those that the deployment excludes."""
MAX_NOTES = 100
"""Bids, and refused bids, of one round that go into the deployment's events: others must not fill our disk."""
MAX_PROOF_BYTES = 16 * 1024
DIRECT_AT_ONCE = 16


class BidBook:
    """The good bids of one deployment, by node and peer."""

    def __init__(self) -> None:
        self._bids: dict[str, dict[PeerID, tuple[Bid, float]]] = {}

    def __iter__(self) -> Iterator[Bid]:
        return iter([bid for bids in self._bids.values() for bid, _ in bids.values()])

    def __len__(self) -> int:
        return sum(map(len, self._bids.values()))

    def add(self, bid: Bid, now_s: float) -> bool:
        """Keep it; whether it is the peer's first one for this node."""
        bids = self._bids.setdefault(bid.node_id, {})
        is_new = bid.peer not in bids
        bids[bid.peer] = (bid, now_s)
        return is_new

    def peers(self, name: str) -> set[PeerID]:
        """Who bid for it."""
        return set(self._bids.get(name, ()))

    def drop(self, peers: Iterable[PeerID]) -> None:
        """These do not stand by their bids, or were told to forget them."""
        for peer in peers:
            for bids in self._bids.values():
                bids.pop(peer, None)

    def prune(self, now_s: float) -> None:
        """Forget what is too old."""
        for name, bids in self._bids.items():
            self._bids[name] = {p: (bid, at_s) for p, (bid, at_s) in bids.items() if now_s - at_s < KEEP_S}


async def collect_bids(
    ctx: Context,
    state: DeploymentState,
    nonce: str,
    book: BidBook | None = None,
) -> tuple[Bid, ...]:
    """One round: ask, and listen until the window closes, or all is found and the network has gone quiet.

    ``book`` has what earlier rounds found, and keeps what this one does.
    """
    book = BidBook() if book is None else book
    shunned = frozenset((*state.excluded, *ctx.config.v1.exclude_peers))
    book.prune(trio.current_time())
    book.drop(shunned)
    wishes = wishes_of(ctx.config)
    glance = assign(wishes, book, state.measured, work=GLANCE_WORK)
    if isinstance(glance, Unmatched):
        await _Round(ctx, state, nonce, book, wishes, shunned, glance).run()
    else:
        await ctx.note("bids_kept", {"count": len(book)})
    return tuple(book)


def describe_bid(bid: Bid) -> dict[str, object]:
    """A bid for people."""
    out: dict[str, object] = {"node": bid.node_id, "peer": bid.peer}
    if bid.free is not None:
        out |= {"free_cores": bid.free.cpu.cores, "free_ram_bytes": bid.free.ram.size}
    if bid.location.country:
        out["country"] = bid.location.country
    if bid.latency_us:
        out["rtt_ms"] = round(bid.latency_us / 1000, 1)
    if bid.doubt:
        out["doubt"] = bid.doubt
    if bid.prices:
        out["prices"] = [f"{p.currency} {p.per_hour:g}/h, {p.per_result:g} for the result" for p in bid.prices]
    return out


class _Round:
    """One round under one nonce."""

    def __init__(
        self,
        ctx: Context,
        state: DeploymentState,
        nonce: str,
        book: BidBook,
        wishes: Wishes,
        shunned: frozenset[PeerID],
        lacking: Unmatched,
    ) -> None:
        self._ctx, self._state, self._nonce, self._book = ctx, state, nonce, book
        self._wishes, self._kinds, self._shunned = wishes, wishes.kinds, shunned
        names = set(lacking.without_bids or lacking.contended)
        self._asked = tuple(kind for kind in self._kinds.values() if not names.isdisjoint(kind.nodes))
        network = ctx.actor.network
        self._size = network_size(network.peer_id, network.known_peers())
        self._share = 1.0
        self._arrived = trio.Event()
        self._told = self._refused = 0
        self._ends_s = trio.current_time() + BID_WINDOW_S

    async def run(self) -> None:
        self._ctx.actor.on(messages.BID, self._on_bid, is_answer=True)
        try:
            with trio.move_on_at(self._ends_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ask)
                    await self._until_enough()
                    nursery.cancel_scope.cancel()
        finally:
            self._ctx.actor.off(messages.BID)
        if self._told > MAX_NOTES or self._refused > MAX_NOTES:
            await self._ctx.note("bids_heard", {"count": self._told, "refused": self._refused})

    async def _until_enough(self) -> None:
        heard: Assignment | None = None
        while True:
            if heard is None or isinstance(heard, Unmatched):
                heard = assign(self._wishes, self._book, self._state.measured, work=GLANCE_WORK)
            if isinstance(heard, Unmatched):
                await self._arrived.wait()
                await trio.sleep(QUIET_S if heard.contended else min(QUIET_S, PAUSE_PER_BID_S * len(self._book)))
                continue
            with trio.move_on_after(QUIET_S) as quiet:
                await self._arrived.wait()
            if quiet.cancelled_caught:
                return

    # asking --------------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        chosen = self._state.only_peers
        async with trio.open_nursery() as nursery:
            by_peer: dict[PeerID, list[Kind]] = {}
            for kind in self._asked:
                for peer in (kind.pinned,) if kind.pinned else chosen:
                    by_peer.setdefault(peer, []).append(kind)
            limit = trio.CapacityLimiter(DIRECT_AT_ONCE)
            for peer, kinds in by_peer.items():
                nursery.start_soon(self._ask_peer, peer, kinds, limit)
            everybody = [kind for kind in self._asked if not kind.pinned]
            if everybody and not chosen:
                await self._ask_everybody(everybody)

    async def _ask_everybody(self, kinds: list[Kind]) -> None:
        nodes = sum(len(kind.nodes) for kind in kinds)
        target = max(MIN_TARGET, min(MAX_BIDS_PER_NODE * nodes, 48 + 2 * nodes))
        last = int(BID_WINDOW_S / STAGE_S) - 1
        excluded = self._excluded(kinds)
        for stage in itertools.count():
            is_last = (self._share >= 1 and stage > 0) or stage >= last
            wanted = messages.Sampling(target=0 if is_last else target, size=self._size, stage=stage)
            self._share = share(wanted)
            wanted = msgspec.structs.replace(wanted, jitter_ms=jitter_ms(self._share * self._size))
            for portion in requests_for(kinds):
                request = self._request(portion, wanted, excluded)
                await self._ctx.actor.publish(
                    messages.BID_REQUEST_TOPIC,
                    messages.BID_REQUEST,
                    request,
                    timeout_s=max(0.1, self._ends_s - trio.current_time()),
                    reply_to=messages.BID,
                )
            if is_last:
                return
            await trio.sleep(STAGE_S)

    async def _ask_peer(self, peer: PeerID, kinds: list[Kind], limit: trio.CapacityLimiter) -> None:
        try:
            for portion in requests_for(kinds):
                request = self._request(portion, messages.Sampling(), ())
                async with limit:
                    await self._ctx.actor.send(
                        handle_of_peer(peer),
                        messages.BID_REQUEST,
                        request,
                        timeout_s=BID_WINDOW_S,
                        reply_to=messages.BID,
                    )
        except DMSError as exc:
            await self._ctx.note("peer_unreachable", {"peer": peer, "reason": exc.message})

    def _request(
        self,
        portion: tuple[messages.VersionedNodeRequest, ...],
        sampling: messages.Sampling,
        excluded: tuple[PeerID, ...],
    ) -> messages.BidRequest:
        return messages.BidRequest(
            id=self._ctx.ensemble,
            nonce=self._nonce,
            request=portion,
            peer_exclusion=excluded,
            sampling=sampling,
            # of few peers: more are asked only when these did not suffice, and then reasons would come from all
            wants_reasons=sampling.stage == 0,
            is_dry_run=self._ctx.is_dry_run,
        )

    def _excluded(self, kinds: list[Kind]) -> tuple[PeerID, ...]:
        """Those that shall not host, and those whose bids for all of this are kept."""
        known = set.intersection(*(self._book.peers(kind.name) for kind in kinds))
        kept = sorted(known)[:MAX_EXCLUDED]
        return (*sorted(self._shunned), *kept)

    # listening -----------------------------------------------------------------------------------------------------

    async def _on_bid(self, message: Message[Any]) -> None:
        try:
            if is_refusal(message.envelope.msg):
                await self._on_refusal(message)
                return
            bids = self._checked(message)
        except InvalidBid as exc:
            self._refused += 1
            if self._refused <= MAX_NOTES:
                await self._ctx.note("bid_refused", {"peer": message.peer, "reason": exc.message})
            return
        is_new = [self._book.add(bid, trio.current_time()) for bid in bids]
        self._arrived.set()
        self._arrived = trio.Event()
        for bid in bids:
            self._ctx.hearing.forget(bid.peer, bid.node_id)
        for bid in itertools.compress(bids, is_new):
            self._told += 1
            if self._told <= MAX_NOTES:
                await self._ctx.note("bid_received", describe_bid(bid))

    async def _on_refusal(self, message: Message[Any]) -> None:
        """A peer tells why it does not bid."""
        data, ensemble = message.envelope.msg, self._ctx.ensemble
        refused = read_refusals(data, ensemble=ensemble, nonce=self._nonce, known=self._kinds)
        for news in self._ctx.hearing.take(message.peer, refused):
            await self._ctx.note("bid_declined", news)

    def _checked(self, message: Message[Any]) -> tuple[Bid, ...]:
        """The bids in a message, one for each node.

        :raises InvalidBid: none of them will do; why the first one does not.
        """
        data = message.envelope.msg
        now_ns = self._ctx.actor.security.now_ns()
        whole = verify_bid(data, ensemble=self._ctx.ensemble, nonce=self._nonce, now_ns=now_ns)
        if whole.peer != message.peer or whole.handle.did != message.sender.did:
            raise InvalidBid("the bid is not that of its sender")
        if whole.peer in self._shunned:
            raise InvalidBid("this peer is excluded")
        whole = judged(whole, self._ctx.actor.network.latency, self._ctx.here())
        if self._ctx.config.v1.edges:
            if len(data) > MAX_PROOF_BYTES:
                raise InvalidBid("the bid is too long")
            whole = msgspec.structs.replace(whole, proof=bytes(data))
        good, problems = [], []
        for bid in for_each_node(whole):
            problem = self._problem(bid)
            problems.append(problem)
            if not problem:
                limits = self._kinds[bid.node_id].price_limits
                good.append(msgspec.structs.replace(bid, prices=affordable(bid, limits)) if limits else bid)
        if not good:
            raise InvalidBid(problems[0])
        return tuple(good)

    def _problem(self, bid: Bid) -> str:
        kind = self._kinds.get(bid.node_id)
        if kind is None:
            return f"unknown node {bid.node_id[:80]}"
        if kind.pinned:
            if bid.peer != kind.pinned:
                return f"node {bid.node_id} is pinned to another peer"
        elif self._state.only_peers:
            if bid.peer not in self._state.only_peers:
                return "this peer was not asked"
        elif bid.free is not None and draw(self._nonce, bid.peer) >= self._share:
            return "the peer bid out of turn"
        if kind.price_limits and not affordable(bid, kind.price_limits):
            return f"it asks more than node {bid.node_id} may cost"
        peers = self._book.peers(bid.node_id)
        if len(peers) >= MAX_BIDS_PER_NODE * len(kind.nodes) and bid.peer not in peers:
            return f"there are enough bids for node {bid.node_id}"
        return ""
