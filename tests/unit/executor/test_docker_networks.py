"""Networks of tenants, on a real engine with its firewall: who reaches whom, and what is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.docker.engine import Engine
from dms.executor.docker.networks import PREFIX, TenantNetworks
from dms.executor.errors import StartFailed
from dms.executor.protocol import ExecutionRequest, ExecutionStatus, PortBinding
from dms.testing.dockerd import busybox_image, docker_engine_with_firewall
from dms.types.resources import CPU, RAM, Resources, SpecConfig

IMAGE = "dms-test/busybox:1"
SERVE = "while true; do echo hello | nc -l -p 80; done"


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    async def give_image(host: str) -> None:
        api = DockerApi(host)
        await api.negotiate()
        await api.import_image(IMAGE, busybox_image())

    with docker_engine_with_firewall() as engine:
        trio.run(give_image, engine.host)
        yield engine.host


@dataclass
class Bench:
    api: DockerApi
    host: str
    path: Path
    nursery: trio.Nursery
    executor: DockerExecutor

    def request(self, id_: str, tenant: str, command: str = "sleep 100", **members: object) -> ExecutionRequest:
        engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command]})
        limits = Resources(cpu=CPU(cores=0.5), ram=RAM(size=1 << 26))
        request = ExecutionRequest("job", id_, engine, limits, self.path / id_, tenant=tenant)
        return replace(request, **members)  # type: ignore[arg-type]

    async def address(self, id_: str) -> str:
        net = (await self.executor.info(id_)).net
        assert net is not None
        return net.ip_address

    async def reaches(self, from_: str, to: str) -> bool:
        command = ("sh", "-c", f"nc -w 1 {await self.address(to)} 80 </dev/null")
        return b"hello" in (await self.executor.exec(from_, command)).stdout

    async def networks(self) -> list[str]:
        return [n["Name"] for n in await self.api.call("GET", "/networks") if n["Name"].startswith(PREFIX)]

    async def reopen(self) -> None:
        """As after `kill -9`: nobody said farewell."""
        self.executor = await DockerExecutor.open(self.nursery, self.path / "state", executor_id="exe", host=self.host)


@pytest.fixture
async def bench(tmp_path: Path, host: str) -> AsyncIterator[Bench]:
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            api = DockerApi(host)
            await api.negotiate()
            executor = await DockerExecutor.open(nursery, tmp_path / "state", executor_id="exe", host=host)
            bench = Bench(api, host, tmp_path, nursery, executor)
            try:
                yield bench
            finally:
                with trio.move_on_after(30, shield=True):
                    await bench.executor.cleanup()
            assert await bench.networks() == []
            nursery.cancel_scope.cancel()


@pytest.mark.docker
async def test_allocations_of_one_ensemble_reach_each_other_and_those_of_another_do_not(bench: Bench) -> None:
    for id_, tenant in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("plain", "")):
        await bench.executor.start(bench.request(id_, tenant, SERVE))
    assert await bench.reaches("a1", "a2")
    assert not await bench.reaches("a1", "b1")
    assert not await bench.reaches("b1", "a2")
    assert not await bench.reaches("plain", "a1")
    assert not await bench.reaches("b1", "plain")


@pytest.mark.docker
async def test_a_network_is_there_as_long_as_somebody_is_in_it(bench: Bench) -> None:
    await bench.executor.start(bench.request("a1", "a"))
    await bench.executor.start(bench.request("a2", "a", "true"))
    await bench.executor.wait("a2")
    assert len(await bench.networks()) == 1
    await bench.executor.remove("a1", grace_s=0)
    assert len(await bench.networks()) == 1, "a2 has ended and is not removed"
    await bench.executor.remove("a2")
    assert await bench.networks() == []


@pytest.mark.docker
async def test_a_start_that_fails_leaves_no_network(bench: Bench) -> None:
    port = (PortBinding("127.0.0.1", 8123, 80),)
    await bench.executor.start(bench.request("a1", "a", ports=port))
    with pytest.raises(StartFailed, match="port"):
        await bench.executor.start(bench.request("b1", "b", ports=port))
    assert await bench.networks() == [TenantNetworks(bench.api, Engine(), "exe", bool).name("a")]


@pytest.mark.docker
async def test_after_kill_9_the_networks_in_use_are_found_and_the_others_removed(bench: Bench) -> None:
    await bench.executor.start(bench.request("a1", "a", SERVE))
    await bench.executor.start(bench.request("b1", "b"))
    for container in await bench.api.containers({"nunet-executionID": "exe_job_b1"}):
        await bench.api.remove_container(container["Id"])
    await bench.reopen()
    assert len(await bench.networks()) == 1
    assert await bench.executor.status("a1") is ExecutionStatus.RUNNING
    await bench.executor.start(bench.request("a2", "a"))
    assert await bench.reaches("a2", "a1")
    for id_ in ("a1", "a2"):
        await bench.executor.remove(id_, grace_s=0)
    assert await bench.networks() == []


@pytest.mark.docker
async def test_many_ensembles_find_room_and_starts_at_once_share_a_network(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(bench.executor.start, bench.request(f"a{number}", "a"))
    assert len(await bench.networks()) == 1
    used: set[str] = set()
    networks = TenantNetworks(bench.api, Engine(), "exe", used.__contains__)
    names = [networks.name(f"tenant {number}") for number in range(32)]
    used.update(names)
    for name in names:
        await networks.ensure(name)
    assert len(await bench.networks()) == 33
    used.clear()
    for name in names:
        await networks.drop(name)
    assert len(await bench.networks()) == 1


def test_a_network_has_the_name_of_its_tenant_on_this_node_only() -> None:
    def name(executor: str, tenant: str, engine: Engine | None = None) -> str:
        api = DockerApi("unix:///nowhere")
        return TenantNetworks(api, engine or Engine(), executor, lambda _name: True).name(tenant)

    assert name("exe", "a") == name("exe", "a") != name("exe", "b")
    assert name("exe", "a") != name("other", "a")
    assert name("exe", "") == "", "who names no tenant is in the engine's default network"
    assert name("exe", "a", Engine(kind="podman", is_rootless=True)) == "", "each container has its own there"
    assert name("exe", "a", Engine(kind="podman")) != ""


@pytest.mark.docker
async def test_one_that_runs_already_joins_a_private_network_and_learns_who_resolves_names(bench: Bench) -> None:
    """As with orchestrators that tell of the network after the start."""
    joined: list[Path] = []

    async def join(namespace: Path, **_how: object) -> None:
        joined.append(namespace)

    await bench.executor.start(bench.request("a1", "a"))
    before = (await bench.executor.exec("a1", ("cat", "/etc/resolv.conf"))).stdout
    assert b"10.1.2.1" not in before
    await bench.executor.connect(bench.request("a1", "a", join=join, gateway_ip="10.1.2.1"))
    (namespace,) = joined
    assert namespace.exists()
    own = (await bench.executor.exec("a1", ("cat", "/etc/resolv.conf"))).stdout.decode()
    assert [line for line in own.splitlines() if line.startswith("nameserver")] == ["nameserver 10.1.2.1"]


@pytest.mark.docker
async def test_that_and_why_it_begins_without_a_private_network_is_told(bench: Bench) -> None:
    told: list[str] = []

    async def join(_namespace: Path, **_how: object) -> None:
        raise StartFailed("the kernel refuses")

    asked: dict[str, Any] = {"join": join, "gateway_ip": "10.1.2.1", "unjoined": told.append}
    await bench.executor.start(bench.request("a1", "a", **asked))
    assert told == ["the kernel refuses"]
    assert await bench.executor.status("a1") is ExecutionStatus.RUNNING
    with pytest.raises(StartFailed, match="no private address: the kernel refuses"):
        await bench.executor.start(bench.request("a2", "a", **asked, must_join=True))
