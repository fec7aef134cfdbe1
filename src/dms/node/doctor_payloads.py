"""Payloads of ``/dms/node/doctor/*``."""

from __future__ import annotations

import msgspec

from dms.node.diagnosis import Finding
from dms.node.worklog import HeardRequest, Stranger
from dms.types.gojson import Wire

DOCTOR_WORK = "/dms/node/doctor/work"
DOCTOR_CHECKUP = "/dms/node/doctor/checkup"
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
