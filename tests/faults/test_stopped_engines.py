"""The engine is stopped and started again while containers run, as an update of it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.faults.containers import opened, request, until_logged

from dms.executor.errors import ExecutorUnavailable
from dms.executor.protocol import EndReason
from dms.testing.dockerd import TestEngine

pytestmark = pytest.mark.docker


async def test_an_engine_that_is_stopped_and_started_is_used_again_and_its_containers_ends_are_told(
    docker: TestEngine, tmp_path: Path
) -> None:
    async with opened(docker.host, tmp_path) as executor:
        await executor.start(request(tmp_path, "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done"))
        await executor.start(request(tmp_path, "echo up; sleep 1000", "deaf", restart_policy="unless-stopped"))
        await until_logged(executor, b"up")
        await trio.to_thread.run_sync(docker.stop)
        try:
            with pytest.raises(ExecutorUnavailable):
                await executor.start(request(tmp_path, "true", "meanwhile"))
        finally:
            await trio.to_thread.run_sync(docker.start)
        result = await executor.wait("e")
        assert result.stdout_path is not None
        assert result.stdout_path.read_text() == "up\nbye\n"
        assert result.reason in (EndReason.EXITED, EndReason.KILLED)  # the engine may have forgotten that it signalled
        await executor.cancel("deaf", grace_s=0)  # the engine had started that one again
        assert (await executor.wait("deaf")).reason is EndReason.CANCELLED
        await executor.start(request(tmp_path, "true", "after"))
        assert (await executor.wait("after")).ok
