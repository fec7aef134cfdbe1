"""The HTTP client of the providers: guarded addresses, redirects that are bounded and checked, no surprises.

Nothing of the environment counts: no proxy, no ``.netrc``, no cookies. Bodies come as they were sent.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpcore2
import httpx2

from dms import __version__
from dms.storage.egress import Egress, GuardedBackend, Resolve, resolve
from dms.storage.errors import AccessRefused, InvalidStorageSpec, SourceNotFound, StorageError, TooLarge, TransferFailed

MAX_REDIRECTS = 5
TIMEOUT_S = 60.0
"""Without a byte."""
MAX_CONNECTIONS = 16
MAX_MESSAGE_BYTES = 64 << 10
_STREAM = "nunet.stream"
_REDIRECTS = (301, 302, 303, 307, 308)

Content = bytes | AsyncIterable[bytes] | None


class WebClient:
    """One client; :meth:`aclose` it. ``verify`` is what TLS certificates are checked against."""

    def __init__(self, egress: Egress, *, lookup: Resolve = resolve, verify: ssl.SSLContext | None = None) -> None:
        self._transport = _Transport(GuardedBackend(egress, lookup), verify)
        self._client = httpx2.AsyncClient(
            transport=self._transport,
            timeout=httpx2.Timeout(TIMEOUT_S),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": f"nunet/{__version__}", "Accept-Encoding": "identity"},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        accept: tuple[int, ...] = (),
    ) -> AsyncIterator[httpx2.Response]:
        """Ask, follow redirects, and hand out the answer while it comes; ``accept``: statuses that are no errors.

        ``headers`` go to the first host only: no other is told a credential.

        :raises SourceNotFound: 404 or 410.
        :raises AccessRefused: 401, 402, 403 or 407.
        :raises TransferFailed: everything else that is no success, and every failure on the way.
        """
        current, sent = check_url(url), dict(headers or {})
        origin = _origin(current)
        for _ in range(MAX_REDIRECTS + 1):
            async with _failures_translated(current), self._once(method, current, sent, content) as response:
                if response.status_code not in _REDIRECTS or content is not None:
                    await _check_status(response, current, accept)
                    yield response
                    return
                target = _joined(current, response.headers.get("location", ""))
            if current.scheme == "https" and target.scheme != "https":
                raise TransferFailed(f"{_shown(current)} leads from https to {target.scheme}")
            current = target
            if _origin(current) != origin:
                sent = {name: value for name, value in sent.items() if name.lower() in ("range", "if-range", "accept")}
        raise TransferFailed(f"{_shown(check_url(url))} is redirected more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _once(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str], content: Content
    ) -> AsyncIterator[httpx2.Response]:
        async with self._client.stream(method, url, headers=dict(headers), content=content) as response:
            yield response


@asynccontextmanager
async def body(response: httpx2.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body as it comes. Not by way of ``aiter_raw``: its generators are left open where reading ends early."""
    stream: AsyncIterable[bytes] = response.extensions[_STREAM]
    iterator = stream.__aiter__()
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


async def read_bounded(response: httpx2.Response, limit: int) -> bytes:
    """The body, if it is not larger than ``limit`` bytes.

    :raises TooLarge: it is.
    """
    chunks, size = [], 0
    async with body(response) as stream:
        async for chunk in stream:
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the answer of {_shown(response.url)} has more than {limit} bytes")
            chunks.append(chunk)
    return b"".join(chunks)


def check_url(text: str) -> httpx2.URL:
    """An address of HTTP or HTTPS.

    :raises InvalidStorageSpec: it is none.
    """
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise InvalidStorageSpec(f"{text[:80]!r} is no address: {exc}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidStorageSpec(f"{text[:80]!r} is no address of http or https")
    return url


class _Transport(httpx2.AsyncBaseTransport):
    """httpx2's own transport has no place for a backend; this one has, and cannot be had without."""

    def __init__(self, backend: GuardedBackend, verify: ssl.SSLContext | None) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS,
            keepalive_expiry=15.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        extensions = dict(answer.extensions) | {_STREAM: answer.stream}
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer.aiter_stream()

    async def aclose(self) -> None:
        await self._answer.aclose()


@asynccontextmanager
async def _failures_translated(url: httpx2.URL) -> AsyncIterator[None]:
    try:
        yield
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as exc:
        raise TransferFailed(f"{_shown(url)} does not answer: {_reason(exc)}") from exc
    except (
        httpcore2.NetworkError,
        httpcore2.TimeoutException,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
        httpcore2.UnsupportedProtocol,
    ) as exc:
        raise TransferFailed(f"{_shown(url)} does not answer: {_reason(exc)}") from exc


async def _check_status(response: httpx2.Response, url: httpx2.URL, accept: tuple[int, ...]) -> None:
    status = response.status_code
    if 200 <= status < 300 or status in accept:
        return
    error: type[StorageError] = TransferFailed
    if status in (404, 410):
        error = SourceNotFound
    elif status in (401, 402, 403, 407):
        error = AccessRefused
    raise error(f"{_shown(url)} answers {status} {response.reason_phrase[:80]}".rstrip())


def _joined(base: httpx2.URL, location: str) -> httpx2.URL:
    try:
        target = base.join(location)
    except (httpx2.InvalidURL, ValueError):
        raise TransferFailed(f"{_shown(base)} leads to {location[:80]!r}, which is no address") from None
    if not location or target.scheme not in ("http", "https") or not target.host:
        raise TransferFailed(f"{_shown(base)} leads to {location[:80]!r}, which is no address of http or https")
    return target


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _shown(url: httpx2.URL) -> str:
    """Without what may be secret: credentials and query."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))[:200]


def _reason(exc: Exception) -> str:
    return str(exc)[:200] or type(exc).__name__
