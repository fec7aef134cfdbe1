"""The provider's answer to a bid request: whether, for which nodes, and why not (``spec/orchestration.md`` 4.1).

The rules are pure; :class:`Bidder` applies them to this machine and remembers what it offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.requirements import location_matches
from dms.identity.ids import ActorID
from dms.node.errors import NoBid
from dms.node.reasons import Reason, Rule
from dms.node.reservations import check_ensemble_id
from dms.node.telling import Teller
from dms.node.worklog import WorkLog
from dms.observe import catalogue, get_logger
from dms.orchestrator import messages
from dms.orchestrator.bidding.bid import MAX_PRICES, PriceBid, TimeBid, sign_bid
from dms.orchestrator.bidding.node_names import NodeNames
from dms.orchestrator.bidding.sampling import delay_s, draw, network_size, share
from dms.orchestrator.bidding.whereabouts import state_coordinate, state_place
from dms.orchestrator.bidding.wishes import member_part
from dms.resources.arithmetic import check, fits
from dms.resources.capability import Connectivity, HardwareCapability, Locality, StorageUnit, Time
from dms.resources.capability import check as check_capability
from dms.resources.capability_comparison import unmet as unmet_capability
from dms.resources.comparison import unmet
from dms.resources.gpus import pack
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID, PeerID
from dms.types.places import Place
from dms.types.resources import GPU, Location, Resources

BID_LIFETIME_S = 300.0
MAX_REMEMBERED = 10_000
MAX_ADDRESSES = 16
"""Of this node that a bid tells."""
MAX_NODE_REQUESTS = 1_000
"""Of one message; a longer list is cut, not refused."""
MAX_REASON_CHARS = 500
NS_PER_S = 10**9
ENDLESS_S = 10**9
"""Who lets work run longer than that sets no limit."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offerings:
    """What this machine has at the moment of a request. ``machine`` is what was onboarded, ``free`` what is left of it."""

    peer: PeerID
    executors: frozenset[str]
    machine: Resources
    free: Resources
    location: Location
    ports: Callable[[Sequence[int], int], None] = lambda _static, _dynamic: None
    """Raises when these static ports, and so many dynamic ones, cannot be had."""
    allow_privileged: bool = False
    lacks_network: str = ""
    """Why no addresses of private networks are given here; empty where they are."""
    position: Place | None = None
    """Where exactly, if its owner says that."""
    declared: HardwareCapability = HardwareCapability()  # noqa: RUF009  frozen
    """What the owner says of the machine; the rest of its capability is found (:func:`capability`)."""


def why_not(request: messages.NodeRequest, offer: Offerings, excluded: Iterable[PeerID]) -> Reason | None:
    """The rule by which this machine will not host the node; ``None`` when it will."""
    if offer.peer in set(excluded):
        return Reason(Rule.EXCLUDED, "this peer is excluded")
    if not location_matches(request.location, offer.location):
        return Reason(Rule.LOCATION, "the location does not match")
    try:
        check(request.resources)
    except DMSError as exc:
        return Reason(Rule.INVALID, exc.message)
    missing = [e for e in request.executors or () if e not in offer.executors]
    if missing:
        return Reason(Rule.EXECUTOR, f"no executor {', '.join(missing)}")
    if request.general.privileged_docker and not offer.allow_privileged:
        return Reason(Rule.PRIVILEGED, "privileged containers are not allowed here")
    if request.needs_network and offer.lacks_network:
        return Reason(Rule.NETWORK, f"no private addresses are given here: {offer.lacks_network}"[:MAX_REASON_CHARS])
    short = _shortage(request, offer)
    if short is not None:
        return short
    try:
        offer.ports(request.public_ports.static or (), request.public_ports.dynamic)
    except DMSError as exc:
        return Reason(Rule.PORTS, exc.message)
    try:
        lacking = _unmet_capability(request.capability, offer)
    except DMSError as exc:
        return Reason(Rule.INVALID, exc.message)
    return Reason(Rule.CAPABILITY, lacking) if lacking else None


def refusal(request: messages.NodeRequest, offer: Offerings, excluded: Iterable[PeerID]) -> str:
    """Why this machine will not host the node, in words; empty when it will."""
    reason = why_not(request, offer, excluded)
    return reason.text if reason is not None else ""


def capability(offer: Offerings, wanted: HardwareCapability) -> HardwareCapability:
    """All that this machine is and has at the moment, as far as ``wanted`` could ask for it: of the ports only those that
    it names are looked at."""
    place, disk = offer.location, offer.free.disk
    places = (("continent", place.continent), ("country", place.country), ("city", place.city))
    return msgspec.structs.replace(
        offer.declared,
        executor=tuple(sorted(offer.executors)),
        resources=offer.free,
        locality=tuple(Locality(kind=kind, name=name) for kind, name in places if name),
        storage=(StorageUnit(type=disk.type.lower(), size=disk.size),),
        connectivity=Connectivity(ports=tuple(port for port in wanted.connectivity.ports if _can_have(offer, port))),
    )


def _shortage(request: messages.NodeRequest, offer: Offerings) -> Reason | None:
    """What of the resources is not there. Graphics processors that several allocations want are packed exactly."""
    wanted = request.resources
    groups = tuple(part.gpus for part in (request.allocations or {}).values() if part.gpus)
    if groups:
        for part in (request.allocations or {}).values():
            try:
                check(part)
            except DMSError as exc:
                return Reason(Rule.INVALID, exc.message)
        wanted = msgspec.structs.replace(wanted, gpus=())
    lacking = unmet(offer.machine, wanted)
    if lacking:
        return Reason(Rule.MACHINE, f"the machine falls short: {'; '.join(item.reason for item in lacking)}")
    if not _can_pack(offer.machine, groups):
        reason = f"the machine falls short: its GPUs cannot serve {len(groups)} allocations together"
        return Reason(Rule.MACHINE, reason)
    if not fits(offer.free, wanted):
        short = "; ".join(item.reason for item in unmet(offer.free, wanted))
        return Reason(Rule.FREE, f"not enough free resources now{': ' * bool(short)}{short}")
    if not _can_pack(offer.free, groups):
        return Reason(Rule.FREE, "not enough free GPU memory now")
    return None


def _can_pack(have: Resources, groups: Sequence[tuple[GPU, ...]]) -> bool:
    try:
        pack(have.gpus, groups)
    except DMSError:
        return False
    return True


def _unmet_capability(wanted: HardwareCapability | None, offer: Offerings) -> str:
    """Which rule is not met, and why.

    :raises InvalidResources: what is wanted makes no sense.
    """
    if wanted is None:
        return ""
    check_capability(wanted)
    lacking = unmet_capability(capability(offer, wanted), wanted)
    return "; ".join(f"{item.part}: {item.reason}" for item in lacking)[:MAX_REASON_CHARS]


def _can_have(offer: Offerings, port: int) -> bool:
    try:
        offer.ports((port,), 0)
    except DMSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was offered to an ensemble: to which orchestrator, for which requests and the nodes that each stands for, and
    until when (UNIX nanoseconds)."""

    orchestrator: ActorID
    expiry_ns: int
    kinds: Mapping[str, tuple[messages.NodeRequest, NodeNames]]
    is_dry_run: bool = False
    """Only to see, and to measure: nothing is reserved for it."""

    def request_of(self, node: str) -> messages.NodeRequest | None:
        """What was asked for this node, if it was bid for."""
        return next((request for request, names in self.kinds.values() if node in names), None)


class Machine(Protocol):
    """Where the bidder learns what it may offer."""

    async def offerings(self) -> Offerings | None:
        """What there is now; ``None`` when nothing may be offered (not onboarded, or still recovering)."""
        ...


class Bidder:
    """Answers bid requests for this machine."""

    def __init__(
        self, actor: Actor, machine: Machine, *, work: WorkLog | None = None, teller: Teller | None = None
    ) -> None:
        self._actor = actor
        self._machine = machine
        self.work = work or WorkLog()
        self._teller = teller or Teller(actor.security)
        self._bids: dict[EnsembleID, Remembered] = {}
        self._answered: dict[tuple[EnsembleID, str, frozenset[str]], int] = {}

    def check(self, ensemble: EnsembleID, node: str, orchestrator: ActorID) -> int:
        """The expiry of our bid for a node (UNIX nanoseconds).

        :raises NoBid: this orchestrator got none, or it has expired.
        """
        bid = self._bids.get(ensemble)
        if bid is None or bid.orchestrator != orchestrator or bid.is_dry_run or bid.request_of(node) is None:
            raise NoBid(f"no bid requests for ensemble id: {ensemble}")
        if bid.expiry_ns < self._actor.security.now_ns():
            raise NoBid(f"the bid for ensemble id {ensemble} has expired")
        return bid.expiry_ns

    def wants(self, ensemble: EnsembleID, node: str) -> Mapping[str, Resources]:
        """What each allocation of a node that was bid for wants, if there are several and that was told."""
        bid = self._bids.get(ensemble)
        request = bid.request_of(node) if bid is not None else None
        return parts_of(request, node) if request is not None else {}

    def has_bid(self, ensemble: EnsembleID, orchestrator: ActorID) -> bool:
        """Whether this orchestrator has a bid of ours for something in the ensemble that holds."""
        bid = self._bids.get(ensemble)
        now_ns = self._actor.security.now_ns()
        return bid is not None and bid.orchestrator == orchestrator and bid.expiry_ns >= now_ns

    def is_bidding(self, ensemble: EnsembleID) -> bool:
        """Whether somebody has a bid of ours for the ensemble that holds."""
        bid = self._bids.get(ensemble)
        return bid is not None and bid.expiry_ns >= self._actor.security.now_ns()

    def forget(self, ensemble: EnsembleID, orchestrator: ActorID) -> None:
        """Drop what was offered to an ensemble of this orchestrator."""
        bid = self._bids.get(ensemble)
        if bid is not None and bid.orchestrator == orchestrator:
            del self._bids[ensemble]

    def sweep(self) -> None:
        """Forget what has expired."""
        now_ns = self._actor.security.now_ns()
        self._bids = {k: b for k, b in self._bids.items() if b.expiry_ns >= now_ns}
        self._answered = {k: expiry_ns for k, expiry_ns in self._answered.items() if expiry_ns >= now_ns}

    async def on_request(self, message: Message[messages.BidRequest]) -> None:
        """One bid for all that fits, or for one of it to those that know no such bids; else silence, or reasons."""
        request = message.payload
        wanted = [entry.v1 for entry in (request.request or ())[:MAX_NODE_REQUESTS]]
        # pinned nodes are asked for directly and the others by broadcast, in one round
        key = (request.id, request.nonce, frozenset(node.node_id for node in wanted))
        if key in self._answered or len(self._answered) >= MAX_REMEMBERED or not self._is_our_turn(request):
            return
        check_ensemble_id(request.id)
        now_ns = self._actor.security.now_ns()
        expiry_ns = now_ns + int(BID_LIFETIME_S * NS_PER_S)
        self._answered[key] = expiry_ns
        if request.sampling is not None:
            await trio.sleep(delay_s(request.sampling, request.nonce, self._actor.network.peer_id))
        offer = await self._machine.offerings()
        if offer is None:
            idle = Reason(Rule.NOT_OFFERED, "this machine is not offered")
            self._note(message, [], {idle: [node.node_id for node in wanted]}, expiry_ns)
            return
        accepted: dict[str, tuple[messages.NodeRequest, NodeNames]] = {}
        refused: dict[Reason, list[str]] = {}
        for node in wanted:
            await trio.lowlevel.checkpoint()  # each may take a while to decide
            reason = why_not(node, offer, request.peer_exclusion or ())
            if reason is None:
                try:
                    accepted[node.node_id] = (node, NodeNames((node.node_id, *(node.nodes or ()))))
                except DMSError as exc:
                    reason = Reason(Rule.INVALID, exc.message)
            if reason is not None:
                log.info("no_bid", ensemble=request.id, node=node.node_id, rule=reason.rule.value, reason=reason.text)
                refused.setdefault(reason, []).append(node.node_id)
        requester = message.sender.id
        known = self._bids.get(request.id)
        if known is not None and known.expiry_ns < now_ns:
            known = None
        if accepted and known is not None and known.orchestrator != requester:
            log.info("no_bid", ensemble=request.id, reason="somebody else uses this id")
            self._note(message, [], {Reason(Rule.TAKEN, "somebody else uses this id"): list(accepted)}, expiry_ns)
            return
        self._note(message, list(accepted), refused, expiry_ns)
        await self._tell(message, refused)
        if not accepted:
            return
        kinds = {**(known.kinds if known else {}), **accepted}
        if len(kinds) > MAX_NODE_REQUESTS:
            kinds = accepted
        self._bids[request.id] = Remembered(requester, expiry_ns, kinds, is_dry_run=request.is_dry_run)
        names = sorted(accepted, key=lambda name: draw(request.nonce, self._actor.network.peer_id, name))
        bid = sign_bid(
            self._actor.security.key,
            ensemble=request.id,
            node_id=names[0],
            handle=self._actor.handle,
            location=offer.location,
            addresses=self._actor.network.reachability.report().announced[:MAX_ADDRESSES],
            nonce=request.nonce,
            expiry_ns=expiry_ns,
            free=offer.free,
            also=tuple(sorted(names[1:])) if request.sampling is not None else (),
            prices=tuple(
                PriceBid(currency=p.currency, per_hour=p.currency_per_hour, per_result=p.total_per_job)
                for p in offer.declared.price[:MAX_PRICES]
            ),
            time=TimeBid(max_s=_limit_s(offer.declared.time)),
            place=state_place(offer.position),
            coordinate=state_coordinate(self._actor.network.latency.coordinate),
        )
        try:
            await self._actor.reply(message.envelope, bid)
        except DMSError as exc:
            log.info("bid_not_delivered", ensemble=request.id, nodes=len(names), error=exc.message)
            return
        if not request.is_dry_run:
            self._actor.events.emit(catalogue.BID_SENT, ensemble=request.id, peer=message.peer, nodes=names)

    def _is_our_turn(self, request: messages.BidRequest) -> bool:
        """Whether this machine is among those that shall answer."""
        sampling, network = request.sampling, self._actor.network
        if sampling is None or sampling.target < 1:
            return True
        known = network_size(network.peer_id, network.known_peers())
        if draw(request.nonce, network.peer_id) < share(sampling, known):
            return True
        self._actor.counters["bids.out_of_turn"] += 1
        self.work.passed_over(self._actor.security.now_ns())
        return False

    def _note(
        self,
        message: Message[messages.BidRequest],
        accepted: Sequence[str],
        refused: Mapping[Reason, Sequence[str]],
        expiry_ns: int,
    ) -> None:
        """For the owner, who may ask why this machine gets no work."""
        request = message.payload
        if not accepted and self.is_bidding(request.id) and {reason.rule for reason in refused} <= {Rule.EXCLUDED}:
            return  # the bid that it has still counts
        self.work.heard(
            request.id,
            message.peer,
            message.sender.did.uri,
            self._actor.security.now_ns(),
            nodes=len(accepted) + sum(len(names) for names in refused.values()),
            bid=accepted,
            refused=refused,
            expiry_ns=expiry_ns,
            is_dry_run=request.is_dry_run,
        )

    async def _tell(self, message: Message[messages.BidRequest], refused: Mapping[Reason, Sequence[str]]) -> None:
        """For whoever asked, if he may know."""
        answer = self._teller.answer(message, refused, trio.current_time())
        if answer is None:
            return
        try:
            await self._actor.reply(message.envelope, answer)
        except DMSError as exc:
            log.debug("reasons_not_delivered", ensemble=message.payload.id, error=exc.message)


def parts_of(request: messages.NodeRequest, node: str) -> Mapping[str, Resources]:
    """What each allocation of one node of a kind wants, if there are several and that was told."""
    parts = request.allocations or {}
    if len(parts) < 2:
        return {}
    return {member_part(request, name, node): part for name, part in parts.items()}


def _limit_s(time: Time) -> int:
    """How long work may last here at most; 0: as long as it likes."""
    try:
        return time.seconds if time.seconds < ENDLESS_S else 0
    except DMSError:
        return 0
