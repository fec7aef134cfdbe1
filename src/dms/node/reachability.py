"""What another peer sees of this node: from what the network reports to findings, with what mends them; and the behaviour
``/dms/node/doctor/network``, for the owner. Ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.network.addresses import is_loopback, parse_address
from dms.network.protocol import Network, PeerInfo
from dms.network.reachability import Reach, ReachabilityReport
from dms.node.diagnosis import Finding, note, ok, problem, summary, worst_first
from dms.node.doctor_payloads import (
    DOCTOR_NETWORK,
    AddressReach,
    NetworkReply,
    NetworkRequest,
    RelayHeld,
    SeenAs,
)
from dms.types.units import format_bytes, format_duration

PROBE_S = 20.0
MAX_ADDRESSES = 32
ALL_WELL = "others can reach this node"


class NetworkCheck:
    """Answers for one node."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def register(self, actor: Actor) -> None:
        """Answer on the root actor."""
        payload: Any = NetworkRequest | None
        actor.on(DOCTOR_NETWORK, self._check, payload=payload, error_reply=lambda error: NetworkReply(error=error))

    async def _check(self, message: Message[NetworkRequest | None]) -> NetworkReply:
        reachability = self._network.reachability
        if message.payload is not None and message.payload.quick:
            return reply_of(reachability.report(), self._network.peers())
        return reply_of(await reachability.probe(timeout_s=PROBE_S), self._network.peers())


def reply_of(report: ReachabilityReport, peers: Sequence[PeerInfo]) -> NetworkReply:
    """All of it, for the owner."""
    findings = worst_first(examine_reach(report, peers))
    told = [address.partition("/p2p/")[0] for address in report.announced if "/p2p-circuit" not in address]
    checks = {check.address: check for check in report.checks}
    addresses = []
    for address in list(dict.fromkeys([*told, *checks]))[:MAX_ADDRESSES]:
        check = checks.get(address)
        addresses.append(
            AddressReach(
                address=address,
                told=address in told,
                reached_by=len(check.reached_by) if check else 0,
                failed_for=len(check.failed_for) if check else 0,
                why=check.why[:200] if check else "",
            )
        )
    return NetworkReply(
        ok=True,
        summary=summary(findings, ALL_WELL if report.status is Reach.PUBLIC else report.why),
        status=report.status.value,
        confidence=report.confidence,
        addresses=tuple(addresses),
        seen_as=tuple(
            SeenAs(ip=one.ip, peers=len(one.reporters), believed=one.is_accepted) for one in report.observed[:8]
        ),
        relays=tuple(
            RelayHeld(
                peer=one.relay,
                expires_in_s=int(one.expires_in_s),
                limit_bytes=one.limit_bytes,
                limit_s=one.limit_s,
            )
            for one in report.relays
        ),
        findings=findings,
    )


def examine_reach(report: ReachabilityReport, peers: Sequence[PeerInfo]) -> Iterator[Finding]:
    """What stands in the way of being reached, and what does not."""
    yield _status(report, peers)
    if report.observed:
        first = report.observed[0]
        seen = f"peers see this node at {first.ip} ({len(first.reporters)} of them)"
        believed = "" if first.is_accepted else "; one address is believed once three agree"
        yield ok("seen as", seen + believed)
    if report.mapping is not None:
        asked = f"{report.mapping.protocol}: port {report.mapping.internal_port}"
        if report.mapping.problem:
            hint = "forward the port in the router by hand, and set p2p.announce_addresses"
            yield note("router", f"{asked} is not forwarded: {report.mapping.problem}", hint)
        else:
            yield ok("router", f"{asked} is forwarded from {report.mapping.external}")
    for relay in report.relays:
        limits = [format_bytes(relay.limit_bytes)] * bool(relay.limit_bytes)
        limits += [format_duration(float(relay.limit_s))] * bool(relay.limit_s)
        each = f"; a connection may carry {' and last '.join(limits)}" if limits else ""
        yield ok(
            "relay", f"{relay.relay} forwards to this node for another {format_duration(relay.expires_in_s)}{each}"
        )
    if report.has_relay_service:
        yield ok("service", f"forwards connections of others: {report.circuits} now")
    through = sum(peer.is_relayed for peer in peers)
    if through:
        hint = "slow, and limited by the relay; see nunet peers"
        yield note("peers", f"{through} of {len(peers)} peers are connected through a relay", hint)


def _status(report: ReachabilityReport, peers: Sequence[PeerInfo]) -> Finding:
    if report.status is Reach.PUBLIC:
        return ok("reach", report.why)
    hint = _hint(report)
    if report.status is Reach.PRIVATE:
        return (note if report.relays else problem)("reach", report.why, hint)
    if not peers:
        return problem(
            "reach", "the node is connected to nobody who could tell", "check p2p.bootstrap_peers, nunet peers"
        )
    return note("reach", f"nobody can tell whether others reach this node: {report.why}", hint)


def _hint(report: ReachabilityReport) -> str:
    """What opens the way: the port, by number."""
    listening = [parse_address(address) for address in report.announced if "/p2p-circuit" not in address]
    ports = dict.fromkeys(str(address).split("/")[4] for address in listening if not is_loopback(address))
    if not ports:
        return "set p2p.listen_address to an address that others can reach"
    port = ", ".join(list(ports)[:3])
    return (
        f"let {port}/tcp through the firewall and forward it in the router to this machine; if the router has another"
        " port, set p2p.announce_addresses"
    )
