"""Registries that refuse, fail, dawdle or talk nonsense, asked by a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from tests.faults.containers import opened, request

from dms.executor.docker.api import DockerApi
from dms.executor.errors import EngineRefused
from dms.executor.protocol import EndReason, ExecutionStatus
from dms.testing.dockerd import TestEngine

pytestmark = pytest.mark.docker

LOGIN = b'WWW-Authenticate: Basic realm="registry"\r\n'
ERRORS = b'{"errors": [{"code": "DENIED", "message": "\\u001b[2Jgo away\\r\\nok"}]}'
TLS_HANDSHAKE = b"\x16"
MANIFEST = b"Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"


@asynccontextmanager
async def registry(
    status: int, head: bytes = b"", body: bytes = ERRORS, *, is_slow: bool = False
) -> AsyncIterator[str]:
    """One that answers everything but the first question in this way; its address."""

    async def serve(stream: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            try:
                received = b""
                while b"\r\n\r\n" not in received and not received.startswith(TLS_HANDSHAKE):
                    received += await stream.receive_some() or b"\r\n\r\n"
                if received.startswith(TLS_HANDSHAKE):  # engines try that first
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
                is_first = received.split(b" ")[1:2] == [b"/v2/"]
                if is_slow:
                    await trio.sleep_forever()
                code, own, said = (200, b"", b"{}") if is_first and status != 401 else (status, head, body)
                length = f"Content-Length: {len(said)}\r\nConnection: close\r\n".encode()
                await stream.send_all(f"HTTP/1.1 {code} X\r\n".encode() + own + length + b"\r\n" + said)
            except trio.BrokenResourceError:
                scope.cancel()
        await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "head", "body"),
    [
        (401, LOGIN, ERRORS),
        (403, b"", ERRORS),
        (404, b"", b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no"}]}'),
        (429, b"", b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}'),
        (500, b"", b"<html>" + bytes(range(256))),
        (200, MANIFEST, b"[[[[" * 1000),
        (200, MANIFEST, b'{"schemaVersion": 2, "config": 7}'),
        (302, b"Location: http://127.0.0.1:1/elsewhere\r\n", b""),
    ],
    ids=["login", "denied", "unknown", "limited", "broken", "garbage", "odd", "elsewhere"],
)
async def test_a_registry_that_does_not_give_the_image_ends_the_start_in_one_line(
    docker: TestEngine, tmp_path: Path, status: int, head: bytes, body: bytes
) -> None:
    async with registry(status, head, body) as address, opened(docker.host, tmp_path) as executor:
        auth = {"username": "ann", "password": "s3cr3t-s3cr3t"}
        await executor.start(request(tmp_path, "true", image=f"{address}/team/app:1", registry_auth=auth))
        result = await executor.wait("e")
        assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
        assert f"the image {address}/team/app:1 cannot be pulled: " in result.error_msg
        assert result.error_msg.isprintable()
        assert "s3cr3t" not in result.error_msg
        await executor.remove("e")
        await executor.start(request(tmp_path, "true"))  # and the engine serves on
        assert (await executor.wait("e")).ok


async def test_a_slow_registry_is_given_up_and_its_pull_can_be_cancelled(docker: TestEngine, tmp_path: Path) -> None:
    async with registry(200, is_slow=True) as address, opened(docker.host, tmp_path) as executor:
        api = DockerApi(docker.host)
        await api.describe()
        with pytest.raises(EngineRefused, match=r"nothing came for 0\.2 s"):
            await api.pull(f"{address}/team/app:1", stall_s=0.2)
        await executor.start(request(tmp_path, "true", image=f"{address}/team/app:1"))
        told = await executor.info("e")
        assert told.status is ExecutionStatus.PENDING
        assert told.doing == f"pulling {address}/team/app:1: asking the registry"
        await executor.cancel("e")
        assert (await executor.wait("e")).reason is EndReason.CANCELLED
