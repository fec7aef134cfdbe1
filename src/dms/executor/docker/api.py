"""The part of the Docker Engine API that is needed here: HTTP on a Unix socket, no SDK.

Answers are JSON of unknown shape; who asks for them picks out what it needs. Connections are not kept: a Unix socket
is cheap to open, and nothing is left to close at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import trio

from dms.executor.docker.streams import FrameDecoder
from dms.executor.errors import EngineRefused, ExecutorUnavailable

DEFAULT_HOST = "unix:///var/run/docker.sock"
PREFERRED_VERSION = (1, 41)
"""Docker 20.10. Engines that speak only newer versions get their oldest."""
TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
MAX_MESSAGE_CHARS = 500

Json = dict[str, Any]  # of unknown shape


class DockerApi:
    """One engine. Every call raises :class:`ExecutorUnavailable` when it does not answer, and
    :class:`EngineRefused` when it says no."""

    def __init__(self, host: str = "") -> None:
        """``host`` is ``unix:///path``; empty means ``DOCKER_HOST``, then the usual socket.

        :raises ExecutorUnavailable: another scheme.
        """
        self.host = host or os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST
        parts = urlsplit(self.host)
        if parts.scheme != "unix" or not parts.path:
            raise ExecutorUnavailable(
                f"the Docker host {self.host} is not a Unix socket", hint="write unix:///path/to/docker.sock"
            )
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                uds=parts.path, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            ),
            base_url="http://docker",
            timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
        )
        self._prefix = ""

    async def negotiate(self) -> Json:
        """Agree on a version; returns what the engine tells of itself. Must come first."""
        about: Json = await self.call("GET", "/version")
        newest, oldest = _version(about.get("ApiVersion")), _version(about.get("MinAPIVersion"))
        major, minor = max(min(PREFERRED_VERSION, newest), oldest)
        self._prefix = f"/v{major}.{minor}"
        return about

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> Any:  # JSON of unknown shape
        """Ask, and return the parsed answer; ``None`` where there is none. No ``timeout_s``: wait for ever."""
        async with self.stream(method, path, query=query, body=body, timeout_s=timeout_s) as response:
            content = await _read(response)
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError:
            raise EngineRefused(f"the Docker engine answered {path} with something else than JSON") from None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content: AsyncIterable[bytes] | bytes | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Ask, and hand out the answer while it comes."""
        params = {key: _text(value) for key, value in (query or {}).items()}
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._client.stream(
                method,
                self._prefix + path,
                params=params,
                content=json.dumps(body).encode() if body is not None else content,
                headers=headers,
                timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            ) as response:
                if response.status_code >= 400:
                    raise EngineRefused(
                        _reason(await _read(response), response.status_code), status=response.status_code
                    )
                yield response
        except (httpx2.TransportError, OSError) as exc:
            reason = str(exc) or type(exc).__name__
            raise ExecutorUnavailable(
                f"the Docker engine at {self.host} does not answer: {reason}",
                hint="is it running, and may this user reach its socket?",
            ) from exc

    async def frames(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, body: object = None
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """The two outputs of a container or command as they come: (1 or 2, bytes). To be closed by the caller."""
        decoder = FrameDecoder()
        async with self.stream(method, path, query=query, body=body) as response:
            async for chunk in response.aiter_raw():
                for frame in decoder.feed(chunk):
                    yield frame

    async def containers(self, labels: Mapping[str, str]) -> list[Json]:
        """All containers, running or not, that carry these labels."""
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        return list(await self.call("GET", "/containers/json", query={"all": True, "filters": filters}) or ())

    async def container(self, name: str) -> Json | None:
        """One container; ``None`` when there is none."""
        return await self._inspect(f"/containers/{_segment(name)}/json")

    async def image(self, name: str) -> Json | None:
        """One image; ``None`` when it is not there."""
        return await self._inspect(f"/images/{_segment(name)}/json")

    async def pull(self, name: str) -> None:
        """Fetch an image from its registry, however long that takes.

        :raises EngineRefused: with the registry's reason.
        """
        repository, tag = split_image(name)
        async with self.stream(
            "POST", "/images/create", query={"fromImage": repository, "tag": tag}, timeout_s=None
        ) as response:
            await _follow_progress(response, f"the image {name} cannot be pulled")

    async def import_image(self, name: str, tar: bytes) -> None:
        """Make an image out of a file system in a tar archive."""
        repository, tag = split_image(name)
        async with self.stream(
            "POST", "/images/create", query={"fromSrc": "-", "repo": repository, "tag": tag}, content=tar
        ) as response:
            await _follow_progress(response, f"the image {name} cannot be imported")

    async def remove_container(self, name: str) -> None:
        """Delete a container, running or not, with its anonymous volumes. One that is gone is fine."""
        with trio.CancelScope(shield=True), trio.move_on_after(TIMEOUT_S):
            try:
                await self.call("DELETE", f"/containers/{_segment(name)}", query={"force": True, "v": True})
            except EngineRefused as exc:
                if exc.status not in (404, 409):  # 409: somebody else removes it just now
                    raise

    async def _inspect(self, path: str) -> Json | None:
        try:
            answer: Json = await self.call("GET", path)
        except EngineRefused as exc:
            if exc.status == 404:
                return None
            raise
        return answer


def split_image(name: str) -> tuple[str, str]:
    """Repository and tag (or digest) of an image name; without one it is ``latest``."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, digest
    repository, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return repository, tag
    return name, "latest"


async def _follow_progress(response: httpx2.Response, what: str) -> None:
    """Read a stream of progress reports to its end; one of them may tell of an error."""
    error = ""
    async for line in response.aiter_lines():
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and report.get("error"):
            error = str(report["error"])[:MAX_MESSAGE_CHARS]
    if error:
        raise EngineRefused(f"{what}: {error}")


async def _read(response: httpx2.Response) -> bytes:
    return await response.aread()


def _reason(content: bytes, status: int) -> str:
    try:
        return str(json.loads(content)["message"])[:MAX_MESSAGE_CHARS]
    except (ValueError, KeyError, TypeError):
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
