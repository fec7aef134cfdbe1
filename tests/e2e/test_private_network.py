"""The private network of an ensemble: containers on several machines find each other by name, at addresses of their own."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dms.executor.docker.api import DockerApi
from dms.testing.dockerd import TestEngine, busybox_image, docker_engine
from dms.testing.localnet import LocalNet, nunet_command, run_nunet, start_nunet

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.netns, pytest.mark.xdist_group("docker")]

IMAGE = "dms-test/busybox:1"
MEMBERS = ("first", "second", "third")
HOMES = {"first": "left", "second": "left", "third": "right"}
PORT = 8080


@dataclass(frozen=True)
class Job:
    """A deployment whose three services run, and what they run on."""

    net: LocalNet
    id: str
    engine: TestEngine

    def inside(self, member: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of a member, as the machine's owner could."""
        told = subprocess.run(
            ["docker", "-H", self.engine.host, "ps", "--format", '{{.ID}} {{.Label "nunet-executionID"}}'],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        label = f"{self.id}_{HOMES[member]}.{member}-1"
        (name,) = [line.split()[0] for line in told.splitlines() if line.endswith(label)]
        return subprocess.run(
            ["docker", "-H", self.engine.host, "exec", name, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def containers(self) -> list[str]:
        """Of all deployments, those that hold networks included."""
        return self._told("ps", "--all", "--format", "{{.Names}}")

    def networks(self) -> list[str]:
        """Those of tenants."""
        return self._told("network", "ls", "--filter", "name=nunet-", "--format", "{{.Name}}")

    def _told(self, *command: str) -> list[str]:
        done = subprocess.run(["docker", "-H", self.engine.host, *command], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def page(self, one: str, other: str) -> str:
        """What one member is told by the server of another, which it finds by its name; empty when it is not reached."""
        found = self.inside(one, "nslookup", other).stdout.partition("Name:")[2]
        for address in re.findall(r"^Address:?\s*(?:1:\s*)?(10\.[0-9.]+)$", found, re.MULTILINE):
            request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {PORT}"
            return self.inside(one, "sh", "-c", request).stdout
        return ""


def ensemble(net: LocalNet, directory: Path, name: str = "pages") -> Path:
    """Three web servers on two nodes; each begins by looking up another one, and ends at once if it is not found."""
    neighbours = dict(zip(MEMBERS, (*MEMBERS[1:], MEMBERS[0]), strict=True))
    script = f"nslookup {{neighbour}} && mkdir /tmp/www && cd /tmp/www && echo {{page}} >index.html && exec httpd -f -p {PORT}"
    allocations = {
        member: {
            "type": "service",
            "executor": "docker",
            "resources": {"cpu": {"cores": 0.2}, "ram": {"size": 1 << 26}, "disk": {"size": 1 << 26}},
            "execution": {
                "type": "docker",
                "params": {
                    "image": IMAGE,
                    "entrypoint": ["/bin/sh", "-c"],
                    "cmd": [script.format(neighbour=neighbours[member], page=f"{name} {member}")],
                },
            },
        }
        for member in neighbours
    }
    nodes = {
        home: {"allocations": [m for m in MEMBERS if HOMES[m] == home], "peer": net.node(node).peer_id}
        for home, node in (("left", "node1"), ("right", "node2"))
    }
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"v1": {"allocations": allocations, "nodes": nodes}}))
    return path


@pytest.fixture(scope="module")
def engine() -> Iterator[TestEngine]:
    with docker_engine() as engine:
        trio.run(_import, engine.host)
        yield engine


async def _import(host: str) -> None:
    api = DockerApi(host)
    await api.negotiate()
    await api.import_image(IMAGE, busybox_image())


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, engine: TestEngine) -> Iterator[LocalNet]:
    net = LocalNet(tmp_path_factory.mktemp("private") / "net")
    done = run_nunet("devnet", "up", "-n", 3, "--dir", net.directory, env={"DOCKER_HOST": engine.host})
    assert done.code == 0, done
    try:
        yield net
    finally:
        done = run_nunet("devnet", "down", "--dir", net.directory)
        net.reap()


@pytest.fixture(scope="module")
def job(net: LocalNet, engine: TestEngine, tmp_path_factory: pytest.TempPathFactory) -> Job:
    path = ensemble(net, tmp_path_factory.mktemp("ensemble"))
    done = run_nunet("deploy", "-f", path, "--wait", env=net.environment)
    assert done.code == 0, done
    return Job(net, done.out.strip(), engine)


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(MEMBERS, 2)))
def test_every_member_reaches_every_other_by_name(job: Job, one: str, other: str) -> None:
    page = job.page(one, other)
    assert "200 OK" in page
    assert page.endswith(f"\npages {other}\n")


def test_each_has_an_address_of_its_own_also_on_the_same_machine(job: Job, net: LocalNet) -> None:
    found = {m: re.search(r"inet (10\.[0-9.]+)/24", job.inside(m, "ip", "addr").stdout) for m in MEMBERS}
    told = json.loads(run_nunet("info", job.id, "--output", "json", env=net.environment).out)["allocations"]
    addresses = {member: told[f"{HOMES[member]}.{member}"]["private_address"] for member in MEMBERS}
    assert {member: match[1] for member, match in found.items() if match} == addresses
    assert len({match[1] for match in found.values() if match}) == len(MEMBERS)


def test_its_status_tells_who_is_where_and_what_passed(job: Job, net: LocalNet) -> None:
    job.page("first", "third")
    reply = json.loads(run_nunet("subnet", "status", job.id, "--output", "json", env=net.environment).out)
    assert {machine["mode"] for machine in reply["machines"].values()} == {"kernel"}
    others = [each for machine in reply["machines"].values() for each in machine["members"] if not each.get("is_own")]
    assert len(others) == 2
    assert all(each["packets_in"] and each["packets_out"] for each in others)
    told = run_nunet("subnet", "status", job.id, env=net.environment).out
    assert "third" in told
    assert "node2: addresses inside containers" in told


def test_another_ensemble_on_the_same_machines_is_not_there(job: Job, net: LocalNet, tmp_path: Path) -> None:
    done = run_nunet("deploy", "-f", ensemble(net, tmp_path, "others"), "--wait", env=net.environment)
    assert done.code == 0, done
    others = Job(net, done.out.strip(), job.engine)
    try:
        assert others.page("first", "third").endswith("\nothers third\n")
        assert job.page("first", "third").endswith("\npages third\n")
        (address,) = re.findall(r"inet (10\.[0-9.]+)/", others.inside("third", "ip", "addr").stdout)
        assert job.inside("third", "nc", "-w", "2", address, str(PORT)).returncode != 0
        assert job.inside("first", "nc", "-w", "2", address, str(PORT)).returncode != 0
    finally:
        net.deployment(others.id).shutdown()


def test_its_owner_reaches_a_port_that_is_published_nowhere(job: Job, net: LocalNet) -> None:
    with start_nunet("port-forward", job.id, "third", f"0:{PORT}", env=net.environment) as forwarding:
        assert forwarding.stdout is not None
        where = re.fullmatch(rf"(127\.0\.0\.1:\d+) -> right\.third:{PORT}\n", forwarding.stdout.readline())
        assert where is not None
        for _ in range(3):
            with urllib.request.urlopen(f"http://{where[1]}/", timeout=30) as answer:
                assert (answer.status, answer.read()) == (200, b"pages third\n")
        forwarding.send_signal(signal.SIGINT)
        assert forwarding.wait(30) == 130
    asked = b"GET / HTTP/1.0\r\n\r\n"
    command = nunet_command("port-forward", "--stdio", job.id, "first", str(PORT))
    told = subprocess.run(
        command, input=asked, capture_output=True, env=os.environ | net.environment, timeout=60, check=True
    )
    assert told.stdout.endswith(b"\npages first\n")
    story = run_nunet("events", job.id, env=net.environment).out
    assert "ports of right.third are forwarded to did:key:" in story


def test_a_port_nobody_listens_at_is_told_in_one_line(job: Job, net: LocalNet) -> None:
    done = run_nunet("port-forward", "--stdio", job.id, "third", "81", env=net.environment)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: port 81 is not reached: Connection refused")


def test_a_machine_whose_daemon_was_killed_takes_part_again(
    job: Job, net: LocalNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", job.engine.host)
    net.end("node1")
    net.start("node1")
    net.await_connected()
    deadline = time.monotonic() + 60
    while not all(job.page(one, other) for one, other in itertools.permutations(MEMBERS, 2)):
        assert time.monotonic() < deadline


def test_nothing_of_it_stays(job: Job, net: LocalNet) -> None:
    assert len(job.containers()) == 2 * len(MEMBERS), "also of what ended when the daemon was killed"
    assert len(job.networks()) == len(set(HOMES.values()))
    done = run_nunet("shutdown", job.id, env=net.environment)
    assert done.code == 0, done
    assert job.containers() == []
    assert job.networks() == []
