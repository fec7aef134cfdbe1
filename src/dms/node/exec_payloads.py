"""Payloads of ``/dms/node/deployment/exec/*``: those between machines (:mod:`dms.allocation.exec_messages`), and where.

Ours; the original has none.
"""

from __future__ import annotations

from dms.allocation.exec_messages import ExecStart, ExecStop, ExecTurn


class ExecStartRequest(ExecStart):
    """Run a command in an allocation, with input and a terminal of that size where they are asked for."""

    id: str = ""
    allocation: str = ""


class ExecTurnRequest(ExecTurn):
    """One turn of talking with it."""

    id: str = ""
    allocation: str = ""


class ExecStopRequest(ExecStop):
    """End it."""

    id: str = ""
    allocation: str = ""
