"""Images: their names, credentials of registries, and pulling with progress (``spec/execution.md`` 2.7).

An image is found by its *name*. Engines also take ids, and beginnings of ids, for names; with these a tenant could run
whatever image another one left here. :func:`bears_name` tells the two apart.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field

from dms.executor.errors import EngineRefused
from dms.executor.text import shown

DOCKER_HUB = "docker.io"
MAX_LAYERS = 1024
MAX_REASON_CHARS = 500
MAX_REPORT_CHARS = 64 * 1024


@dataclass(frozen=True, slots=True)
class ImageName:
    """``registry/path:tag`` or ``registry/path@digest``, as short names are completed by every engine."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Complete a short name: the registry is Docker's own, the tag ``latest``. A digest makes the tag a comment."""
        rest, _, digest = text.partition("@")
        front, slash, last = rest.rpartition("/")
        last, _, tag = last.partition(":")
        rest = f"{front}{slash}{last}"
        first, slash, path = rest.partition("/")
        if not slash or not ("." in first or ":" in first or first == "localhost"):
            first, path = DOCKER_HUB, rest
        if first in ("index.docker.io", "registry-1.docker.io"):
            first = DOCKER_HUB
        if first == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(first, path, "" if digest else tag or "latest", digest)

    @property
    def repository(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.path}"

    @property
    def version(self) -> str:
        """The digest, or else the tag: what a pull asks for beside the repository."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """A login at a registry. The password is in no ``repr`` and no log; it leaves in one header of one call."""

    username: str
    password: str = field(repr=False)

    def header(self, registry: str) -> dict[str, str]:
        """The header of a pull; the engine uses the login for the registry of the image, whatever is named here."""
        told = {"username": self.username, "password": self.password, "serveraddress": registry}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(told).encode()).decode()}


class PullProgress:
    """How far a pull is, out of the engine's reports."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self.digest = ""
        self.error = ""

    def feed(self, report: Mapping[str, object]) -> None:
        """Take one report in."""
        if report.get("error"):
            self.error = shown(str(report["error"]), MAX_REASON_CHARS)
            return
        status, layer = str(report.get("status") or ""), str(report.get("id") or "")
        if status.startswith("Digest: "):
            self.digest = status.removeprefix("Digest: ")[:128]
        if not layer or (layer not in self._layers and len(self._layers) >= MAX_LAYERS):
            return
        if status in ("Pulling fs layer", "Waiting", "Downloading"):
            detail = report.get("progressDetail")
            current, total = _numbers(detail) if isinstance(detail, dict) else (0, 0)
            known = self._layers.get(layer, (0, 0))
            self._layers[layer] = max(current, known[0]), max(total, known[1])
        elif status in ("Pull complete", "Already exists"):
            _, total = self._layers.get(layer, (0, 0))
            self._layers[layer] = total, total
            self._done.add(layer)

    def __str__(self) -> str:
        if not self._layers:
            return "asking the registry"
        got, total = (sum(pair[i] for pair in self._layers.values()) for i in (0, 1))
        return f"{len(self._done)} of {len(self._layers)} layers, {got / 1e6:.1f} of {total / 1e6:.1f} MB"


async def follow_reports(
    lines: AsyncIterable[str], what: str, on_progress: Callable[[PullProgress], None] | None = None
) -> PullProgress:
    """Read an engine's reports to their end.

    :raises EngineRefused: one of them tells of an error.
    """
    progress = PullProgress()
    async for line in lines:
        if len(line) > MAX_REPORT_CHARS:
            continue
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(report, dict):
            continue
        progress.feed(report)
        if on_progress is not None:
            on_progress(progress)
    if progress.error:
        raise EngineRefused(f"{what}: {progress.error}")
    return progress


def bears_name(image: Mapping[str, object], name: ImageName) -> bool:
    """Whether the engine's image has this very name, and was not found by its id."""
    names = image.get("RepoDigests" if name.digest else "RepoTags")
    if not isinstance(names, list):
        return False
    known = [ImageName.parse(str(one)) for one in names]
    return name in known or ImageName("localhost", name.path.removeprefix("library/"), name.tag, name.digest) in known


def _numbers(detail: Mapping[str, object]) -> tuple[int, int]:
    current, total = detail.get("current"), detail.get("total")
    return (current if isinstance(current, int) else 0), (total if isinstance(total, int) else 0)
