"""One request to a service that is not trusted: no redirections, a bounded answer, our errors only."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import httpx2
import trio

MAX_BODY_BYTES: Final = 262144
TIMEOUT_S: Final = 30.0
"""For each step of a request; callers bound the whole."""
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For plain HTTP, where a client wants one too: it trusts nobody, and is not slow to make as the real one is."""

_BROKEN: Final = (
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    OSError,
    ValueError,
    trio.ClosedResourceError,
    trio.BrokenResourceError,
)


class Failed(Exception):
    """There was no answer that can be used; the text says why."""


class Answer(NamedTuple):
    """Status and body of a response."""

    status: int
    body: bytes


async def ask(method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    """Send one request and read the whole answer.

    :raises Failed: nobody answered, or too much.
    """
    sent = {"Accept-Encoding": "identity", "User-Agent": "nunet", **headers}
    verify: ssl.SSLContext | bool = _NO_TLS if url.startswith("http:") else True
    try:
        async with (
            httpx2.AsyncClient(verify=verify, timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream(method, url, headers=sent, content=body) as response,
        ):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Failed("the answer is compressed although that was not asked for")
            return Answer(response.status_code, await _read(response))
    except _BROKEN as exc:
        raise Failed(str(exc)[:200] or type(exc).__name__) from None


async def _read(response: httpx2.Response) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                await response.aclose()  # and go on, which fails: leaving the loop would leave generators unfinished
                continue
            chunks.append(chunk)
    except _BROKEN:
        if size <= MAX_BODY_BYTES:
            raise
    if size > MAX_BODY_BYTES:
        raise Failed(f"the answer has more than {MAX_BODY_BYTES} bytes")
    return b"".join(chunks)
