"""Payloads of ``/dms/node/doctor/work``."""

from __future__ import annotations

import msgspec

from dms.node.diagnosis import Finding
from dms.node.worklog import HeardRequest, Stranger
from dms.types.gojson import Wire

DOCTOR_WORK = "/dms/node/doctor/work"
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
