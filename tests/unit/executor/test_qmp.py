"""QEMU's monitor protocol against one that answers as it should, late, wrongly or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
import trio.testing

from dms.executor.errors import EngineRefused, ExecutorUnavailable
from dms.executor.qmp import command, short_path

GREETING: dict[str, object] = {"QMP": {"version": {}, "capabilities": []}}


async def monitor(
    nursery: trio.Nursery, directory: Path, answers: list[object]
) -> tuple[Path, list[dict[str, object]]]:
    """A monitor that greets and then gives one group of lines per command."""
    heard: list[dict[str, object]] = []
    path = directory / ("long" * 30) / "qmp.sock"  # longer than names of sockets may be
    path.parent.mkdir()
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    async with short_path(path) as name:
        await listener.bind(name)
    listener.listen(1)

    async def serve() -> None:
        with listener:
            client, _ = await listener.accept()
        stream = trio.SocketStream(client)
        async with stream:
            await stream.send_all(json.dumps(GREETING).encode() + b"\r\n")
            for answer in answers:
                asked = await stream.receive_some()
                if not asked:
                    return
                heard.append(json.loads(asked))
                lines = answer if isinstance(answer, list) else [answer]
                for line in lines:
                    data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\r\n"
                    await stream.send_all(data)

    nursery.start_soon(serve)
    return path, heard


async def test_a_command_is_answered_between_events(nursery: trio.Nursery, tmp_path: Path) -> None:
    answers: list[object] = [{"return": {}}, [{"event": "STOP"}, {"return": {"status": "paused"}}]]
    path, heard = await monitor(nursery, tmp_path, answers)
    assert await command(path, "query-status", x=1) == {"status": "paused"}
    assert heard == [{"execute": "qmp_capabilities"}, {"execute": "query-status", "arguments": {"x": 1}}]


async def test_a_refusal_is_told_with_its_reason(nursery: trio.Nursery, tmp_path: Path) -> None:
    path, _ = await monitor(nursery, tmp_path, [{"return": {}}, {"error": {"class": "x", "desc": "no such thing"}}])
    with pytest.raises(EngineRefused, match="no such thing"):
        await command(path, "stop")


@pytest.mark.parametrize("answer", [b"nonsense\n", b"[1]\n", b""])
async def test_an_answer_that_makes_no_sense_is_unavailability(
    nursery: trio.Nursery, tmp_path: Path, answer: bytes
) -> None:
    path, _ = await monitor(nursery, tmp_path, [answer])
    with pytest.raises(ExecutorUnavailable, match="QEMU does not answer"):
        await command(path, "stop")


async def test_a_monitor_that_is_silent_is_not_waited_for(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path, _ = await monitor(nursery, tmp_path, [{"return": {}}, [b"{"], [b"never asked"]])
    with pytest.raises(ExecutorUnavailable, match="QEMU does not answer"):
        await command(path, "stop")


async def test_no_monitor_is_unavailability(tmp_path: Path) -> None:
    with pytest.raises(ExecutorUnavailable):
        await command(tmp_path / "qmp.sock", "stop")
