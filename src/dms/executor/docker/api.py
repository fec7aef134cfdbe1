"""The part of the Docker Engine API that is needed here: HTTP on a Unix socket, no SDK.

Answers are JSON of unknown shape; who asks for them picks out what it needs. Connections are not kept: a Unix socket
is cheap to open, and nothing is left to close at the end.
"""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import msgspec
import trio

from dms.executor.docker.engine import Engine, find_host
from dms.executor.docker.images import (
    MAX_REPORT_CHARS,
    ImageName,
    PullProgress,
    RegistryAuth,
    bears_name,
    follow_reports,
)
from dms.executor.docker.shapes import CONTAINER, IMAGE, LISTED, OBJECT, held_to, list_of
from dms.executor.docker.streams import FrameDecoder
from dms.executor.errors import EngineRefused, ExecutorUnavailable
from dms.executor.text import shown

PREFERRED_VERSION = (1, 41)
"""Docker 20.10. Engines that speak only newer versions get their oldest."""
TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
PULL_STALL_S, PULL_TIMEOUT_S = 180.0, 2 * 3600.0
"""How long a pull may go without a word, and altogether."""
MAX_MESSAGE_CHARS = 500
MAX_ANSWER_BYTES = 32 * 1024 * 1024

Json = dict[str, Any]  # of unknown shape


class DockerApi:
    """One engine. Every call raises :class:`ExecutorUnavailable` when it does not answer, and
    :class:`EngineRefused` when it says no."""

    def __init__(self, host: str = "") -> None:
        """``host`` is ``unix:///path``; empty means ``DOCKER_HOST``, then the first usual socket of Docker or Podman.

        :raises ExecutorUnavailable: another scheme.
        """
        self.host = find_host(host)
        parts = urlsplit(self.host)
        if parts.scheme != "unix" or not parts.path:
            raise ExecutorUnavailable(
                f"the Docker host {self.host} is not a Unix socket", hint="write unix:///path/to/docker.sock"
            )
        self.socket = Path(parts.path)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, but slow to make, so not one for each call
        self._prefix = ""

    async def negotiate(self) -> Json:
        """Agree on a version; returns what the engine tells of itself. Must come first."""
        about: Json = await self.call("GET", "/version", shape=OBJECT)
        newest, oldest = _version(about.get("ApiVersion")), _version(about.get("MinAPIVersion"))
        major, minor = max(min(PREFERRED_VERSION, newest), oldest)
        self._prefix = f"/v{major}.{minor}"
        return about

    async def describe(self) -> Engine:
        """Agree on a version, and learn what the engine is. Must come first."""
        return Engine.read(await self.negotiate(), await self.call("GET", "/info", shape=OBJECT))

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        timeout_s: float | None = TIMEOUT_S,
        shape: type[msgspec.Struct] | None = None,
    ) -> Any:  # JSON of unknown shape
        """Ask, and return the parsed answer; ``None`` where there is none. No ``timeout_s``: wait for ever. With a
        ``shape`` (:mod:`~dms.executor.docker.shapes`) the answer is an object that has it."""
        content = b""
        with trio.move_on_after(math.inf if timeout_s is None else timeout_s) as scope:  # also for one that trickles
            async with self.stream(method, path, query=query, body=body, timeout_s=timeout_s) as response:
                content = await _read(response)
        if scope.cancelled_caught:
            raise self._silent(f"{path} took longer than {timeout_s:g} s")
        answer = _parsed(content, path)
        return answer if shape is None else held_to(shape, answer, path)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content: AsyncIterable[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Ask, and hand out the answer while it comes."""
        params = {key: _text(value) for key, value in (query or {}).items()}
        all_headers = dict(headers or {}) | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            async with (
                self._client() as client,
                client.stream(
                    method,
                    self._prefix + path,
                    params=params,
                    content=json.dumps(body).encode() if body is not None else content,
                    headers=all_headers,
                    timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
                ) as response,
            ):
                if response.status_code >= 400:
                    raise EngineRefused(
                        _reason(await _read(response), response.status_code), status=response.status_code
                    )
                yield response
        except (httpx2.RequestError, httpx2.InvalidURL, OSError) as exc:
            raise self._silent(shown(str(exc), MAX_MESSAGE_CHARS) or type(exc).__name__) from exc

    async def events(self, query: Mapping[str, object], *, timeout_s: float = TIMEOUT_S) -> list[Json]:
        """What the engine remembers; ``query`` must have an end."""
        async with self.stream("GET", "/events", query=query, timeout_s=timeout_s) as response:
            lines = (await _read(response)).split(b"\n")
        answers = [_parsed(line, "/events") for line in lines if line.strip()]
        return [answer for answer in answers if isinstance(answer, dict)]

    @asynccontextmanager
    async def opened_frames(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, body: object = None
    ) -> AsyncIterator[AsyncIterator[tuple[int, bytes]]]:
        """The two outputs of a container or command as they come, once the engine has agreed: (1 or 2, bytes)."""
        async with self.stream(method, path, query=query, body=body) as response:
            yield _frames(response)

    async def frames(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, body: object = None
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """The same as a generator, to be closed by the caller."""
        async with self.opened_frames(method, path, query=query, body=body) as frames:
            async for frame in frames:
                yield frame

    async def containers(self, labels: Mapping[str, str]) -> list[Json]:
        """All containers, running or not, that carry these labels."""
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        query = {"all": True, "filters": filters}
        return list_of(LISTED, await self.call("GET", "/containers/json", query=query), "containers")

    async def container(self, name: str, *, size: bool = False) -> Json | None:
        """One container; ``None`` when there is none. With its ``size`` on the disk, which takes the engine a while."""
        return await self._inspect(f"/containers/{_segment(name)}/json", CONTAINER, {"size": True} if size else {})

    async def image(self, name: str) -> Json | None:
        """One image that bears this very name; ``None`` when there is none."""
        found = await self._inspect(f"/images/{_segment(name)}/json", IMAGE)
        return found if found is not None and bears_name(found, ImageName.parse(name)) else None

    async def pull(
        self,
        name: str,
        auth: RegistryAuth | None = None,
        on_progress: Callable[[PullProgress], None] | None = None,
        *,
        stall_s: float = PULL_STALL_S,
        timeout_s: float = PULL_TIMEOUT_S,
    ) -> PullProgress:
        """Fetch an image from its registry; ``on_progress`` is called again and again with one and the same object.

        :raises EngineRefused: with the registry's reason, or when it takes too long.
        """
        image, what = ImageName.parse(name), f"the image {name} cannot be pulled"
        query = {"fromImage": image.repository, "tag": image.version}
        headers = auth.header(image.registry) if auth is not None else None
        with trio.move_on_after(timeout_s):
            try:
                async with self.stream(
                    "POST", "/images/create", query=query, headers=headers, timeout_s=stall_s
                ) as response:
                    return await follow_reports(_lines(response), what, on_progress)
            except EngineRefused as exc:
                if exc.message.startswith(what):
                    raise
                raise EngineRefused(f"{what}: {exc.message}", status=exc.status) from None
            except ExecutorUnavailable as exc:
                if isinstance(exc.__cause__, httpx2.ReadTimeout):
                    raise EngineRefused(f"{what}: nothing came for {stall_s:g} s") from None
                raise
        raise EngineRefused(f"{what}: it was not there after {timeout_s:g} s")

    async def import_image(self, name: str, tar: bytes) -> None:
        """Make an image out of a file system in a tar archive."""
        image = ImageName.parse(name)
        query = {"fromSrc": "-", "repo": str(image)}  # Podman reads no tag of its own
        async with self.stream("POST", "/images/create", query=query, content=tar) as response:
            await follow_reports(_lines(response), f"the image {name} cannot be imported")

    async def remove_container(self, name: str) -> None:
        """Delete a container, running or not, with its anonymous volumes. One that is gone is fine."""
        with trio.CancelScope(shield=True), trio.move_on_after(TIMEOUT_S):
            try:
                await self.call("DELETE", f"/containers/{_segment(name)}", query={"force": True, "v": True})
            except EngineRefused as exc:
                if exc.status not in (404, 409):  # 409: somebody else removes it just now
                    raise

    def _client(self) -> httpx2.AsyncClient:
        """One for each call: a pool would keep the connection of a call that is cancelled before it has asked."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(self.socket), limits=limits, verify=self._tls),
            base_url="http://docker",
            trust_env=False,
        )

    def _silent(self, reason: str) -> ExecutorUnavailable:
        return ExecutorUnavailable(
            f"the Docker engine at {self.host} does not answer: {reason}",
            hint="is it running, and may this user reach its socket?",
        )

    async def _inspect(
        self, path: str, shape: type[msgspec.Struct], query: Mapping[str, object] | None = None
    ) -> Json | None:
        try:
            answer: Json = await self.call("GET", path, query=query, shape=shape)
        except EngineRefused as exc:
            if exc.status == 404:
                return None
            raise
        return answer


async def _frames(response: httpx2.Response) -> AsyncIterator[tuple[int, bytes]]:
    decoder = FrameDecoder()
    async for chunk in response.aiter_raw():
        for frame in decoder.feed(chunk):
            yield frame


async def _lines(response: httpx2.Response) -> AsyncIterator[str]:
    """Lines; what is longer than any report is cut."""
    rest = bytearray()
    async for chunk in response.aiter_bytes():
        *lines, last = chunk.split(b"\n")
        for line in lines:
            rest += line[: MAX_REPORT_CHARS + 1 - len(rest)]
            yield rest.decode("utf-8", "replace")
            rest.clear()
        rest += last[: MAX_REPORT_CHARS + 1 - len(rest)]
    if rest:
        yield rest.decode("utf-8", "replace")


def _parsed(content: bytes, path: str) -> Any:  # JSON of unknown shape
    if not content:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise EngineRefused(f"the Docker engine answered {path} with something else than JSON") from None


async def _read(response: httpx2.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise EngineRefused(f"the Docker engine answered with more than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _reason(content: bytes, status: int) -> str:
    try:
        return shown(str(json.loads(content)["message"]), MAX_MESSAGE_CHARS)
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"the Docker engine answered with status {status}"


def _segment(name: str) -> str:
    return quote(name, safe="/:@")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _version(text: object) -> tuple[int, int]:
    try:
        major, minor = (int(part) for part in str(text).split("."))
    except ValueError:
        return 0, 0
    return major, minor
