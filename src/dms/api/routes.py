"""The routes and their OpenAPI description; bodies are envelopes in canonical JSON (``spec/orchestration.md`` 10)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dms import __version__
from dms.actor.envelope import Envelope
from dms.actor.handle import Handle
from dms.api.bridge import Bridge
from dms.api.errors import BadRequest, RequestTimeout
from dms.network.protocol import MAX_MESSAGE_BYTES
from dms.node.health import WarningInfo
from dms.types import gojson
from dms.types.errors import BadInput, Conflict, DMSError, Unavailable
from dms.types.gojson import Wire

BASE = "/api/v1"
CORS_ORIGINS = ("http://localhost:9991", "http://localhost:9992")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Host headers that are answered: a web page elsewhere must not reach this server through a name of its own."""
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


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
_SCHEMA = dict(zip(("envelope", "handle", "error", "sent", "health"), _DEFINITIONS, strict=True))


def create_app(bridge: Bridge, metrics: Callable[[], bytes] = bytes) -> FastAPI:
    """The application; ``metrics`` makes the text that Prometheus reads."""
    app = FastAPI(
        title="NuNet Device Management Service",
        version=__version__,
        description="Carries signed envelopes to actors. Authority is inside the envelopes; there is no HTTP login.",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{BASE}/openapi.json",
    )
    app.add_middleware(
        CORSMiddleware, allow_origins=CORS_ORIGINS, allow_methods=["GET", "POST"], allow_headers=["Content-Type"]
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_HOSTS))
    app.add_exception_handler(DMSError, _on_error)

    @app.get(f"{BASE}/actor/handle", summary="The root actor of this node", **_answers("handle"))
    async def handle() -> Response:
        return _json(gojson.encode(bridge.root))

    @app.post(f"{BASE}/actor/send", summary="Send a message, without waiting for an answer", **_takes_envelope("sent"))
    async def send(request: Request) -> Response:
        await bridge.send(await _body(request))
        return _json(gojson.encode(MessageSent(message="message sent")))

    @app.post(f"{BASE}/actor/invoke", summary="Send a message and return the reply", **_takes_envelope("envelope"))
    async def invoke(request: Request) -> Response:
        return _json(await bridge.invoke(await _body(request)))

    @app.post(
        f"{BASE}/actor/broadcast",
        summary="Publish a message and return the replies gathered until it expires",
        **_takes_envelope("envelope", is_list=True),
    )
    async def broadcast(request: Request) -> Response:
        replies = await bridge.broadcast(await _body(request))
        return _json(b"[" + b",".join(replies) + b"]")

    @app.get(f"{BASE}/health", summary="Whether the node runs", **_answers("health"))
    async def health() -> Response:
        return _json(gojson.encode(HealthBody(status="ok", peers=bridge.peer_count(), warnings=bridge.warnings())))

    @app.get("/metrics", include_in_schema=False)  # its format is Prometheus' own, and so is its place
    async def measured() -> Response:
        return Response(metrics(), media_type=PROMETHEUS)

    app.openapi = _with_components(app.openapi)  # type: ignore[method-assign]
    return app


async def _body(request: Request) -> bytes:
    """The body, bounded, and JSON by its header: a plain web form cannot send that without asking first."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise BadRequest(f"the content type must be {JSON}")
    chunks, size = [], 0
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            size += len(chunk)
            if size > MAX_MESSAGE_BYTES:
                raise BadRequest("message too large")
            chunks.append(chunk)
    return b"".join(chunks)


async def _on_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, DMSError)
    status = 500
    if isinstance(exc, RequestTimeout):
        status = 408
    elif isinstance(exc, BadInput):
        status = 400
    elif isinstance(exc, Conflict):
        status = 409
    elif isinstance(exc, Unavailable):
        status = 503
    return _json(gojson.encode(ErrorBody(error=exc.message, code=exc.code, hint=exc.hint)), status)


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status_code=status, media_type=JSON)


def _answers(name: str, *, is_list: bool = False) -> dict[str, Any]:  # keyword arguments of FastAPI's decorators
    schema = {"type": "array", "items": _SCHEMA[name]} if is_list else _SCHEMA[name]
    failed = {"description": "It failed", "content": {JSON: {"schema": _SCHEMA["error"]}}}
    return {
        "response_class": Response,
        "responses": {200: {"description": "Done", "content": {JSON: {"schema": schema}}}, 500: failed},
    }


def _takes_envelope(answer: str, *, is_list: bool = False) -> dict[str, Any]:  # as above
    described = _answers(answer, is_list=is_list)
    for status, text in (
        (400, "Not a message, or one that cannot be forwarded"),
        (408, "No reply in time"),
        (409, "The inbox of the sender is in use"),
        (503, "The recipient is not reached"),
    ):
        described["responses"][status] = {"description": text, "content": {JSON: {"schema": _SCHEMA["error"]}}}
    body = {"required": True, "content": {JSON: {"schema": _SCHEMA["envelope"]}}}
    return described | {"openapi_extra": {"requestBody": body}}


def _with_components(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def described() -> dict[str, Any]:
        document = openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(_COMPONENTS)
        return document

    return described
