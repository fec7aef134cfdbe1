"""Finding out which executors work here."""

from __future__ import annotations

from pathlib import Path

import trio

from dms.executor.registry import available_executors


async def test_what_is_not_there_is_skipped_with_the_reason(tmp_path: Path, nursery: trio.Nursery) -> None:
    found = await available_executors(
        nursery,
        tmp_path,
        executor_id="node",
        enabled=("null", "wasm", "docker", "quantum"),
        docker_host=f"unix://{tmp_path}/none.sock",
    )
    assert {type_: executor.type for type_, executor in found.executors.items()} == {"null": "null", "wasm": "wasm"}
    assert "does not answer" in found.missing["docker"]
    assert found.missing["quantum"] == "there is no such executor; there are wasm, docker, qemu, firecracker, null"


async def test_nothing_is_tried_that_is_not_enabled(tmp_path: Path, nursery: trio.Nursery) -> None:
    found = await available_executors(nursery, tmp_path, executor_id="node", enabled=())
    assert (found.executors, found.missing) == ({}, {})
