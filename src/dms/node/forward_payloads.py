"""Payloads of ``/dms/node/deployment/forward``; ours, the original has none."""

from __future__ import annotations

from dms.types.gojson import Wire


class ForwardRequest(Wire):
    """Let me connect to these TCP ports of an allocation. ``renews`` is an earlier ticket of the same wish."""

    id: str = ""
    allocation: str = ""
    ports: tuple[int, ...] | None = ()
    renews: str = ""


class ForwardReply(Wire):
    """The ticket, a secret, and for how many seconds it opens connections; those that are open stay open."""

    ok: bool
    error: str = ""
    hint: str = ""
    ticket: str = ""
    lifetime_s: int = 0
    allocation: str = ""
    deployment: str = ""
    execution: int = 0
    """Which one runs, on ``peer``: what listens there may be another program with the next one."""
    peer: str = ""
