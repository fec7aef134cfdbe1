"""Containers of a real engine as members: an address inside, names by the container's own resolver."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
import trio
from tests.network.name_server import OUTSIDE, name_server
from tests.network.worlds import WAIT_S, World

from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.kernel import LinuxKernel
from dms.subnet.subnets import Subnets
from dms.subnet.upstream import NameServers
from dms.testing.dockerd import busybox_image, docker_engine

pytestmark = pytest.mark.docker

ID, CIDR, GATEWAY = "ensemble-one", "10.1.2.0/24", "10.1.2.1"
LOOK = Path(__file__).parents[1] / "e2e" / "look.py"
SERVE = "mkdir -p /tmp/www && echo hello from {} > /tmp/www/index.html && httpd -f -p 8080 -h /tmp/www"

Docker = Callable[..., str]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with docker_engine() as engine:

        def run(*arguments: str, stdin: bytes | None = None) -> str:
            command = ["docker", "-H", engine.host, *arguments]
            done = subprocess.run(command, check=True, capture_output=True, input=stdin, timeout=60)
            return done.stdout.decode().strip()

        run("import", "-", "busybox:test", stdin=busybox_image())
        yield run


class Container:
    """One, with a network of the engine's that nobody else is in."""

    def __init__(self, docker: Docker, name: str, address: str) -> None:
        self.docker, self.name, self.address = docker, name, address
        libraries = [word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro")]
        command = ["run", "-d", "--rm", "--network", "none", "--dns", GATEWAY, *libraries, "busybox:test"]
        self.id = docker(*command, "sh", "-c", SERVE.format(name))

    @property
    def namespace(self) -> Path:
        return Path(f"/proc/{self.docker('inspect', '-f', '{{.State.Pid}}', self.id)}/ns/net")

    async def run(self, *command: str) -> str:
        with trio.fail_after(2 * WAIT_S):
            return await trio.to_thread.run_sync(lambda: self.docker("exec", self.id, *command))

    async def look(self, *tasks: tuple[str, ...]) -> list[str]:
        """What :mod:`tests.e2e.look` finds in its network."""
        pid = self.docker("inspect", "-f", "{{.State.Pid}}", self.id)
        command = ["nsenter", "--net", "--target", pid, sys.executable, str(LOOK), json.dumps(tasks)]
        with trio.fail_after(2 * WAIT_S):
            done = await trio.run_process(command, capture_stdout=True)
        found: list[str] = json.loads(done.stdout)
        return found

    async def fetch(self, name: str, port: int) -> str:
        """With the resolver of the C library, which busybox, being static, does not have."""
        found = await self.run("/usr/bin/getent", "ahostsv4", name)
        return await self.run("wget", "-q", "-T", "5", "-O", "-", f"http://{found.split()[0]}:{port}")


async def test_a_container_asks_for_names_outside_through_the_gateway_only(docker: Docker) -> None:
    container = Container(docker, "one", "10.1.2.2")
    with name_server() as port:
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            world = World("libp2p", nursery)
            network = await world.start()
            kernel, upstream = LinuxKernel(network.peer_id), NameServers(["127.0.0.1"], port=port)
            subnets = Subnets(network, kernel, rng=Random(1), upstream=upstream)
            await stack.enter_async_context(subnets.run())
            subnet = await subnets.create(ID, CIDR, {container.address: network.peer_id})
            await subnet.attach(container.address, container.namespace)
            short, long = await container.look(("ask", OUTSIDE, "A", GATEWAY), ("ask", OUTSIDE, "TXT", GATEWAY))
            assert short == "192.0.2.7"
            assert len(long) > 3000, "asked for again by TCP"
            assert "192.0.2.7" in await container.run("nslookup", OUTSIDE, GATEWAY)
            assert (await container.run("cat", "/etc/resolv.conf")).count("nameserver") == 1
            await stack.aclose()
            world.end()
    docker("rm", "-f", container.id)


async def test_containers_on_two_nodes_find_each_other_by_name(docker: Docker) -> None:
    names = {"one": "10.1.2.2", "two": "10.1.2.3", "three": "10.1.2.4"}
    containers = [Container(docker, name, address) for name, address in names.items()]
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        world = World("libp2p", nursery)
        networks = [await world.start(), await world.start()]
        await networks[1].connect(networks[0].listen_addresses[0])
        table = {c.address: networks[index // 2].peer_id for index, c in enumerate(containers)}
        for index, network in enumerate(networks):
            kernel = LinuxKernel(network.peer_id + secrets.token_hex(4))
            subnets = Subnets(network, kernel, rng=Random(1), datagram_port=0)
            await stack.enter_async_context(subnets.run())
            subnet = await subnets.create(ID, CIDR, table)
            subnet.add_names({f"{name}.internal": address for name, address in names.items()})
            for container in containers[2 * index : 2 * index + 2]:
                await subnet.attach(container.address, container.namespace, ports=[("tcp", 18080, 8080)])
        for source in containers:
            for target in containers:
                if source is target:
                    continue
                for name, port in ((f"{target.name}.internal", 8080), (target.name, 18080)):
                    assert await source.fetch(name, port) == f"hello from {target.name}"
                six = await source.run("/usr/bin/getent", "ahostsv6", target.name)
                assert six.startswith(str(to_ipv6(private_prefix(ID), IPv4Address(target.address))))
        await stack.aclose()
        world.end()
    for container in containers:
        assert "nunet0" not in docker("exec", container.id, "cat", "/proc/net/dev")
        docker("rm", "-f", container.id)
