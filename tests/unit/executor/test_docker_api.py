"""The Docker Engine API client: taking streams apart, names, and hosts."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dms.executor.docker.api import DockerApi
from dms.executor.docker.streams import FrameDecoder
from dms.executor.errors import EngineRefused, ExecutorUnavailable


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=20),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_frames_are_found_wherever_the_stream_is_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(struct.pack(">BxxxL", stream, len(body)) + body for stream, body in frames)
    decoder, outputs, step = FrameDecoder(), {1: b"", 2: b""}, 0
    while data:
        size = cuts[step % len(cuts)]
        for stream, piece in decoder.feed(data[:size]):
            outputs[stream] += piece
        data, step = data[size:], step + 1
    for stream in (1, 2):
        assert outputs[stream] == b"".join(body for which, body in frames if which == stream)


def test_the_host_comes_from_the_environment_and_must_be_a_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert DockerApi().host == "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert DockerApi().host == "unix:///run/other.sock"
    with pytest.raises(ExecutorUnavailable, match="not a Unix socket"):
        DockerApi("tcp://10.0.0.1:2375")


@asynccontextmanager
async def engine(path: Path, answers: dict[str, tuple[int, bytes]]) -> AsyncIterator[DockerApi]:
    """Something that answers as an engine does, one request per connection."""

    async def serve(stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        target = received.split(b" ")[1].decode().partition("?")[0]
        status, body = answers.get(target, (404, b'{"message":"no such thing"}'))
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode() + body)
        await stream.aclose()

    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
        yield DockerApi(f"unix://{path}")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("newest", "oldest", "agreed"),
    [("1.41", "1.12", "/v1.41"), ("1.52", "1.44", "/v1.44"), ("1.40", "1.12", "/v1.40"), ("1.48", "1.24", "/v1.41")],
)
async def test_a_version_is_agreed_on(tmp_path: Path, newest: str, oldest: str, agreed: str) -> None:
    about = json.dumps({"ApiVersion": newest, "MinAPIVersion": oldest}).encode()
    async with engine(tmp_path / "s", {"/version": (200, about), f"{agreed}/info": (200, b"{}")}) as api:
        await api.negotiate()
        assert await api.call("GET", "/info") == {}


async def test_answers_that_are_errors_rubbish_or_empty(tmp_path: Path) -> None:
    answers = {"/bad": (500, b'{"message":"out of order"}'), "/odd": (500, b"<html>"), "/text": (200, b"<html>")}
    async with engine(tmp_path / "s", answers | {"/empty": (204, b"")}) as api:
        with pytest.raises(EngineRefused, match="out of order") as caught:
            await api.call("GET", "/bad")
        assert caught.value.status == 500
        with pytest.raises(EngineRefused, match="status 500"):
            await api.call("GET", "/odd")
        with pytest.raises(EngineRefused, match="something else than JSON"):
            await api.call("GET", "/text")
        assert await api.call("GET", "/empty") is None
        assert await api.container("none") is None
        await api.remove_container("none")


async def test_a_pull_fails_by_an_error_inside_its_progress(tmp_path: Path) -> None:
    progress = b'{"status":"Pulling"}\n\n{"error":"manifest unknown"}\n{"status":"x"}\n'
    async with engine(tmp_path / "s", {"/images/create": (200, progress)}) as api:
        with pytest.raises(EngineRefused, match="the image app cannot be pulled: manifest unknown"):
            await api.pull("app")
