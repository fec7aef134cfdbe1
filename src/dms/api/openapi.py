"""What the REST server answers, described for programs (OpenAPI 3.1)."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from dms import __version__
from dms.actor.envelope import Envelope
from dms.actor.handle import Handle
from dms.node.health import WarningInfo
from dms.types.gojson import Wire

BASE = "/api/v1"
JSON = "application/json"

Node = dict[str, Any]  # a part of a JSON document


class ErrorBody(Wire):
    """What went wrong; ``code`` and ``hint`` are ours."""

    error: str
    code: str = ""
    hint: str = ""


class MessageSent(Wire):
    """The answer to a forwarded message."""

    message: str


class HealthBody(Wire):
    """``ok`` while the node runs; ours: how many peers it is connected to, and what is wrong, the worst first."""

    status: str
    peers: int
    warnings: tuple[WarningInfo, ...] = ()


_DEFINITIONS, _COMPONENTS = msgspec.json.schema_components(
    (Envelope, Handle, ErrorBody, MessageSent, HealthBody), ref_template="#/components/schemas/{name}"
)
_SCHEMA: dict[str, Node] = dict(zip(("envelope", "handle", "error", "sent", "health"), _DEFINITIONS, strict=True))
_FAILURES = {
    400: "Not a message, or one that cannot be forwarded",
    408: "No reply in time",
    409: "The inbox of the sender is in use",
    503: "The recipient is not reached",
}


@cache
def description() -> bytes:
    """The whole document, as JSON. ``/metrics`` is not in it: its format is Prometheus' own, and so is its place."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "NuNet Device Management Service",
                "version": __version__,
                "description": "Carries signed envelopes to actors. Authority is inside the envelopes; there is no HTTP"
                " login.",
            },
            "paths": {
                f"{BASE}/actor/handle": {"get": _answers("The root actor of this node", _SCHEMA["handle"])},
                f"{BASE}/actor/send": {
                    "post": _takes_envelope("Send a message, without waiting for an answer", _SCHEMA["sent"])
                },
                f"{BASE}/actor/invoke": {
                    "post": _takes_envelope("Send a message and return the reply", _SCHEMA["envelope"])
                },
                f"{BASE}/actor/broadcast": {
                    "post": _takes_envelope(
                        "Publish a message and return the replies gathered until it expires",
                        {"type": "array", "items": _SCHEMA["envelope"]},
                    )
                },
                f"{BASE}/health": {"get": _answers("Whether the node runs", _SCHEMA["health"])},
            },
            "components": {"schemas": _COMPONENTS},
        }
    )


def _answers(summary: str, schema: Node) -> Node:
    return {"summary": summary, "responses": {"200": _content("Done", schema), "500": _failed("It failed")}}


def _takes_envelope(summary: str, answer: Node) -> Node:
    described = _answers(summary, answer)
    described["responses"] |= {str(status): _failed(text) for status, text in _FAILURES.items()}
    return described | {"requestBody": {"required": True, "content": {JSON: {"schema": _SCHEMA["envelope"]}}}}


def _failed(text: str) -> Node:
    return _content(text, _SCHEMA["error"])


def _content(text: str, schema: Node) -> Node:
    return {"description": text, "content": {JSON: {"schema": schema}}}
