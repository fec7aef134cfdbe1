"""The routes; bodies are envelopes in canonical JSON (``spec/orchestration.md`` 10)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from dms.api.bridge import Bridge
from dms.api.errors import BadRequest, RequestTimeout
from dms.api.openapi import BASE, JSON, ErrorBody, HealthBody, MessageSent, description
from dms.api.tunnel import serve_tunnel
from dms.network.protocol import MAX_MESSAGE_BYTES
from dms.types import gojson
from dms.types.errors import BadInput, Conflict, DMSError, Unavailable

CORS_ORIGINS = ("http://localhost:9991", "http://localhost:9992")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Host headers that are answered: a web page elsewhere must not reach this server through a name of its own."""
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def create_app(bridge: Bridge, metrics: Callable[[], bytes] = bytes) -> Starlette:
    """The application; ``metrics`` makes the text that Prometheus reads."""

    async def handle(_request: Request) -> Response:
        return _json(gojson.encode(bridge.root))

    async def send(request: Request) -> Response:
        await bridge.send(await _body(request))
        return _json(gojson.encode(MessageSent(message="message sent")))

    async def invoke(request: Request) -> Response:
        return _json(await bridge.invoke(await _body(request)))

    async def broadcast(request: Request) -> Response:
        replies = await bridge.broadcast(await _body(request))
        return _json(b"[" + b",".join(replies) + b"]")

    async def health(_request: Request) -> Response:
        return _json(gojson.encode(HealthBody(status="ok", peers=bridge.peer_count(), warnings=bridge.warnings())))

    async def measured(_request: Request) -> Response:
        return Response(metrics(), media_type=PROMETHEUS)

    async def described(_request: Request) -> Response:
        return _json(description())

    async def tunnel(socket: WebSocket) -> None:
        await serve_tunnel(socket, bridge.tunnel)

    return Starlette(
        routes=[
            Route(f"{BASE}/actor/handle", handle, methods=["GET"]),
            Route(f"{BASE}/actor/send", send, methods=["POST"]),
            Route(f"{BASE}/actor/invoke", invoke, methods=["POST"]),
            Route(f"{BASE}/actor/broadcast", broadcast, methods=["POST"]),
            WebSocketRoute(f"{BASE}/tunnel/{{port:int}}", tunnel),
            Route(f"{BASE}/health", health, methods=["GET"]),
            Route(f"{BASE}/openapi.json", described, methods=["GET"]),
            Route("/metrics", measured, methods=["GET"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_HOSTS)),
            Middleware(
                CORSMiddleware,
                allow_origins=CORS_ORIGINS,
                allow_methods=["GET", "POST"],
                allow_headers=["Content-Type"],
            ),
        ],
        exception_handlers={DMSError: _on_error, HTTPException: _on_refusal},
    )


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


async def _on_refusal(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    answer = _json(gojson.encode(ErrorBody(error=exc.detail.lower())), exc.status_code)
    answer.headers.update(exc.headers or {})
    return answer


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status_code=status, media_type=JSON)
