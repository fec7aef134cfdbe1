"""The shapes that an engine's answers must have before anybody looks into them.

An engine is a program of its owner's, but what it tells comes in part from images and registries, and something else
than an engine may listen at its socket. So each answer is held to the types of the members that are used; whatever else
it holds is left alone.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from dms.executor.errors import EngineRefused
from dms.executor.text import shown

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
"""An id that becomes part of an address."""


class _Created(msgspec.Struct):
    Id: Name
    Warnings: list[str] | None = None


class _State(msgspec.Struct):
    Pid: int | None = None
    ExitCode: int | None = None
    Error: str | None = None
    OOMKilled: bool | None = None
    Running: bool | None = None
    Paused: bool | None = None
    Restarting: bool | None = None
    StartedAt: str | None = None
    FinishedAt: str | None = None


class _Host(msgspec.Struct):
    Memory: int | None = None


class _Mount(msgspec.Struct):
    Type: str | None = None
    Source: str | None = None
    Name: str | None = None
    RW: bool | None = None


class _Binding(msgspec.Struct):
    HostIp: str | None = None
    HostPort: str | None = None


class _Network(msgspec.Struct):
    IPAddress: str | None = None
    IPPrefixLen: int | None = None


class _Networks(msgspec.Struct):
    Bridge: str | None = None
    Networks: dict[str, _Network | None] | None = None
    Ports: dict[str, list[_Binding] | None] | None = None


class _Container(msgspec.Struct):
    Id: str | None = None
    SizeRw: int | None = None
    State: _State | None = None
    HostConfig: _Host | None = None
    Mounts: list[_Mount] | None = None
    NetworkSettings: _Networks | None = None


class _Listed(msgspec.Struct):
    Id: Name
    Image: str | None = None
    State: str | None = None
    Labels: dict[str, str] | None = None
    Mounts: list[_Mount] | None = None


class _ImageConfig(msgspec.Struct):
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Labels: dict[str, str] | None = None
    Volumes: dict[str, object] | None = None


class _Image(msgspec.Struct):
    RepoTags: list[str] | None = None
    RepoDigests: list[str] | None = None
    Config: _ImageConfig | None = None


class _ListedNetwork(msgspec.Struct):
    Name: str
    Labels: dict[str, str] | None = None


class _Exec(msgspec.Struct):
    ExitCode: int | None = None
    Running: bool | None = None


class _Anything(msgspec.Struct):
    """An object."""


CREATED, CONTAINER, LISTED, IMAGE, EXEC, OBJECT = _Created, _Container, _Listed, _Image, _Exec, _Anything
NETWORK = _ListedNetwork


def held_to(shape: type[msgspec.Struct], answer: object, what: str) -> dict[str, Any]:  # Any: JSON
    """``answer``, which has that shape.

    :raises EngineRefused: it has not.
    """
    try:
        msgspec.convert(answer, shape)
    except msgspec.ValidationError as exc:
        raise EngineRefused(f"the engine's answer about {what} makes no sense: {shown(str(exc), 200)}") from None
    if not isinstance(answer, dict):
        raise EngineRefused(f"the engine's answer about {what} makes no sense")
    return answer


def list_of(shape: type[msgspec.Struct], answer: object, what: str) -> list[dict[str, Any]]:  # Any: JSON
    """A list of such; ``None`` is an empty one.

    :raises EngineRefused: it is none.
    """
    if not isinstance(answer, list | None):
        raise EngineRefused(f"the engine's answer about {what} makes no sense: no list")
    return [held_to(shape, one, what) for one in answer or ()]
