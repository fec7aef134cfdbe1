"""WebAssembly programs that are named by an address, a content id or a path, over the real storage providers."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dms.executor.errors import InvalidEngineSpec
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionResult, ExecutionStatus
from dms.executor.registry import available_executors
from dms.executor.wasm import WasmExecutor
from dms.storage.service import StorageOptions, open_volumes
from dms.store import Store
from dms.testing.ipfs import IpfsNode, ipfs_node
from dms.testing.web import Answer, Asked, WebServer, ranged, web_server
from dms.types.resources import RAM, Resources, SpecConfig

PROBE = (Path(__file__).parents[2] / "programs" / "probe.wasm").read_bytes()
SHA256 = hashlib.sha256(PROBE).hexdigest()
TEXT = b"text, and no program"


@dataclass
class Place:
    executor: WasmExecutor
    closed: WasmExecutor
    """Of a node that opens no private network to jobs."""
    web: WebServer
    ipfs: IpfsNode
    path: Path

    def request(self, id_: str, **params: object) -> ExecutionRequest:
        engine = SpecConfig(type="wasm", params={"args": ["hello"], **params})
        return ExecutionRequest("job", id_, engine, Resources(ram=RAM(size=1 << 26)), self.path / "results" / id_)

    async def run(self, id_: str, **params: object) -> ExecutionResult:
        await self.executor.start(self.request(id_, **params))
        return await self.executor.wait(id_)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async def answer(asked: Asked) -> Answer:
        if asked.path == "/stuck":
            await trio.sleep_forever()
        return ranged(asked, TEXT if asked.path == "/text" else PROBE)

    with trio.fail_after(30):
        async with (
            web_server(answer) as web,
            ipfs_node() as ipfs,
            await Store.open(None) as store,
            await Store.open(None) as other,
            open_volumes(
                store,
                tmp_path / "work",
                StorageOptions(allowed_networks=("127.0.0.0/8", "::1/128"), ipfs_gateway=ipfs.url),
            ) as volumes,
            open_volumes(other, tmp_path / "closed", StorageOptions()) as closed,
            trio.open_nursery() as nursery,
        ):
            executor = WasmExecutor(nursery, tmp_path / "state", fetch_file=volumes.read_file)
            guarded = WasmExecutor(nursery, tmp_path / "guarded", fetch_file=closed.read_file)
            yield Place(executor, guarded, web, ipfs, tmp_path)
            await executor.cleanup()
            nursery.cancel_scope.cancel()


def gets(place: Place) -> int:
    return sum(asked.method == "GET" for asked in place.web.asked)


async def test_a_program_comes_from_its_address_once(place: Place) -> None:
    for id_ in ("first", "second"):
        assert (await place.run(id_, module_url=f"{place.web.url}/probe.wasm", module_sha256=SHA256)).ok
    assert gets(place) == 1


async def test_a_program_comes_from_ipfs(place: Place) -> None:
    (place.path / "tree").mkdir()
    (place.path / "tree" / "probe.wasm").write_bytes(PROBE)
    directory = place.ipfs.add(place.path / "tree")
    from dms.storage.unixfs import DEFAULT, Builder

    with (place.path / "tree" / "probe.wasm").open("rb") as file:
        program = Builder(DEFAULT, place.ipfs.put).file(file).cid
    assert (await place.run("file", module_cid=str(program))).ok
    assert (await place.run("asked", module_cid=f"ipfs://{program}", module_gateway=place.ipfs.url)).ok
    result = await place.run("checked", module_cid=str(program), module_sha256="00" * 32)
    assert "is not what was named" in result.error_msg
    assert (await place.run("directory", module_cid=str(directory))).ok, "a directory that holds one file is that file"


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("/probe.wasm", b"another program", "is not what was named|the hash of what came is"),
        ("/text", TEXT, "is not a"),
    ],
)
async def test_what_is_not_the_program_does_not_run(place: Place, path: str, content: bytes, reason: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    result = await place.run("e", module_url=place.web.url + path, module_sha256=digest)
    assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
    assert any(part in result.error_msg for part in reason.split("|"))
    assert await place.executor.status("e") is ExecutionStatus.FAILED
    await place.executor.remove("e")
    assert await place.executor.list() == ()


async def test_a_job_cannot_make_the_node_ask_its_own_network(place: Place) -> None:
    request = place.request("e", module_url=f"{place.web.url}/probe.wasm", module_sha256=SHA256)
    await place.closed.start(request)
    result = await place.closed.wait("e")
    assert (result.reason, gets(place)) == (EndReason.INFRASTRUCTURE, 0)
    assert "jobs may not reach" in result.error_msg


async def test_fetching_does_not_hold_up_the_start_and_can_be_cancelled(place: Place) -> None:
    await place.executor.start(place.request("e", module_url=f"{place.web.url}/stuck", module_sha256=SHA256))
    assert await place.executor.status("e") is ExecutionStatus.PENDING
    while not place.web.asked:  # noqa: ASYNC110  another process of ours is asked, over a socket
        await trio.sleep(0.01)
    await place.executor.cancel("e")
    assert (await place.executor.wait("e")).reason is EndReason.CANCELLED


async def test_a_node_that_fetches_nothing_says_so_before_it_starts(tmp_path: Path, nursery: trio.Nursery) -> None:
    executor = WasmExecutor(nursery, tmp_path)
    engine = SpecConfig(type="wasm", params={"module_url": "https://example.com/x.wasm", "module_sha256": SHA256})
    with pytest.raises(InvalidEngineSpec, match="programs are not fetched"):
        await executor.validate(engine)


async def test_programs_named_by_their_path_lie_in_modules_in_the_work_directory(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    found = await available_executors(nursery, tmp_path / "executors", executor_id="node", enabled=("wasm",))
    executor = found.executors["wasm"]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "probe.wasm").write_bytes(PROBE)
    await executor.validate(SpecConfig(type="wasm", params={"module_path": f"{tmp_path}/modules/probe.wasm"}))
    with pytest.raises(InvalidEngineSpec, match="not allowed here"):
        await executor.validate(SpecConfig(type="wasm", params={"module_path": f"{tmp_path}/probe.wasm"}))


async def test_a_program_on_the_provider_is_held_to_its_hash(tmp_path: Path, nursery: trio.Nursery) -> None:
    (tmp_path / "probe.wasm").write_bytes(PROBE)
    executor = WasmExecutor(nursery, tmp_path / "state", allowed_module_dirs=[tmp_path])

    def request(id_: str, sha256: str) -> ExecutionRequest:
        params: dict[str, object] = {"module_path": f"{tmp_path}/probe.wasm", "module_sha256": sha256}
        return ExecutionRequest("job", id_, SpecConfig(type="wasm", params=params), Resources(), tmp_path / id_)

    with pytest.raises(InvalidEngineSpec, match="is not what was named"):
        await executor.start(request("other", "00" * 32))
    assert (await executor.run(request("same", SHA256))).ok
