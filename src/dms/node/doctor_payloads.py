"""Payloads of ``/dms/node/doctor/*``."""

from __future__ import annotations

import msgspec

from dms.node.diagnosis import Finding
from dms.node.worklog import HeardRequest, Stranger
from dms.types.gojson import Wire

DOCTOR_WORK = "/dms/node/doctor/work"
DOCTOR_CHECKUP = "/dms/node/doctor/checkup"
DOCTOR_NETWORK = "/dms/node/doctor/network"
DEFAULT_HOURS = 24


class DoctorRequest(Wire):
    """How far back to look, at most two days; 0 is a day."""

    hours: int = 0


class DoctorReply(Wire):
    """What was found, the worst first; the counters of these hours; the last requests and who was denied, newest first."""

    ok: bool = False
    error: str = ""
    summary: str = ""
    hours: int = 0
    findings: tuple[Finding, ...] = ()
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    requests: tuple[HeardRequest, ...] = ()
    strangers: tuple[Stranger, ...] = ()


class PeerReach(Wire):
    """A connected peer: the time to it and back, and how far its clock is ahead of ours, both in milliseconds where known."""

    peer: str
    rtt_ms: float | None = None
    ahead_ms: float | None = None


class CheckupReply(Wire):
    """What was found, the worst first, and the peers, nearest first."""

    ok: bool = False
    error: str = ""
    findings: tuple[Finding, ...] = ()
    peers: tuple[PeerReach, ...] = ()


class NetworkRequest(Wire):
    """``quick``: tell what is known, and ask nobody to dial this node."""

    quick: bool = False


class AddressReach(Wire):
    """An address of this node: whether others are told of it, and how many peers reached it, or tried in vain and why."""

    address: str
    told: bool = False
    reached_by: int = 0
    failed_for: int = 0
    why: str = ""


class SeenAs(Wire):
    """An IP address under which peers see this node; believed once enough of them agree."""

    ip: str
    peers: int = 0
    believed: bool = False


class RelayHeld(Wire):
    """A relay that forwards connections to this node, for so long; what one connection may carry, 0 without limit."""

    peer: str
    expires_in_s: int = 0
    limit_bytes: int = 0
    limit_s: int = 0


class NetworkReply(Wire):
    """How others reach this node: ``public``, ``private`` or ``unknown``, how many peers agree, and what was found."""

    ok: bool = False
    error: str = ""
    summary: str = ""
    status: str = ""
    confidence: int = 0
    addresses: tuple[AddressReach, ...] = ()
    seen_as: tuple[SeenAs, ...] = ()
    relays: tuple[RelayHeld, ...] = ()
    findings: tuple[Finding, ...] = ()
