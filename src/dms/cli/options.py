"""Options and arguments that several commands share, and how long a message may take."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from dms.cli.times import parse_time_ns
from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns

NS_PER_S = 10**9


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Context = Annotated[
    str | None,
    typer.Option(
        "-c", "--context", metavar="NAME", help="Whose key and capabilities: user, unless a network names another."
    ),
]
Output = Annotated[Format, typer.Option("-o", "--output", help="Format of the result.")]
DeploymentID = Annotated[str, typer.Argument(metavar="ID", help="Id of the deployment; its beginning is enough.")]
Timeout = Annotated[
    str | None, typer.Option("-t", "--timeout", metavar="DURATION", help="How long to wait, such as 30s.")
]
Expiry = Annotated[
    str | None, typer.Option("-e", "--expiry", metavar="TIME", help="Until when to wait, such as 2030-01-02 15:04:05.")
]
Destination = Annotated[
    str | None,
    typer.Option(
        "-d", "--dest", metavar="DEST", help="Recipient: a DID, a peer id or a handle as JSON; else our node."
    ),
]


def lifetime(timeout: str | None, expiry: str | None, default_s: float) -> float:
    """Seconds that a message may take, from ``--timeout`` or ``--expiry``.

    :raises BadInput: both, neither a duration nor a time, or over already.
    """
    if timeout and expiry:
        raise BadInput("--timeout and --expiry exclude each other", hint="give one of them")
    if expiry:
        seconds = (parse_time_ns(expiry) - time.time_ns()) / NS_PER_S
        if seconds <= 0:
            raise BadInput(f"the expiry {expiry} is over already")
        return seconds
    seconds = parse_duration_ns(timeout, what="timeout") / NS_PER_S if timeout else default_s
    if seconds <= 0:
        raise BadInput("the timeout must be longer than nothing")
    return seconds
