"""The private network of an ensemble: containers on several machines find each other by name, at addresses of their own."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.modules import need_modules

from dms.subnet.firewall import chains_of
from dms.testing.dockerd import IMAGE, TestEngine
from dms.testing.localnet import LocalNet, nunet_command, run_nunet, start_nunet
from dms.testing.looking import look_until
from dms.testing.vms import ECHO_PORT, make_images

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.netns, pytest.mark.xdist_group("docker")]

MEMBERS = ("first", "second", "third")
HOMES = {"first": "left", "second": "left", "third": "right"}
PORT, UDP_PORT = 8080, 9000
LOOK = Path(__file__).with_name("look.py")
"""A program for the network of a container: it asks and fetches, with what this machine has."""


@dataclass(frozen=True)
class Job:
    """A deployment whose three services run, and what they run on."""

    net: LocalNet
    id: str
    engine: TestEngine

    def inside(self, member: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of a member, as the machine's owner could."""
        return self.engine.inside(f"{self.id}_{HOMES[member]}.{member}-1", *command)

    def pid(self, member: str) -> str:
        """Of a process in the network namespace of a member."""
        return self.engine.pid_of(f"{self.id}_{HOMES[member]}.{member}-1")

    def look(self, member: str, *tasks: tuple[object, ...]) -> list[str]:
        """What :data:`LOOK` finds in the network of a member; of this machine itself, if it is empty."""
        return look(self.pid(member) if member else "", *tasks)

    def facts(self) -> dict[str, Any]:
        """What ``nunet info`` tells of each member."""
        told = json.loads(run_nunet("info", self.id, "--output", "json", env=self.net.environment).out)
        return {member: told["allocations"][f"{HOMES[member]}.{member}"] for member in MEMBERS}

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


def look(pid: str, *tasks: tuple[object, ...]) -> list[str]:
    """What :data:`LOOK` finds in the network of a process; of this machine itself, if there is none."""
    enter = ["nsenter", "--net", "--target", pid] if pid else []
    command = [*enter, sys.executable, str(LOOK), json.dumps([[str(word) for word in task] for task in tasks])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def ensemble(
    net: LocalNet,
    directory: Path,
    name: str = "pages",
    *,
    ports: list[dict[str, object]] | None = None,
    third: str = "third",
) -> Path:
    """Three web servers on two nodes; each begins by looking up another one, and ends at once if it is not found. With
    ``ports`` for the third, the orchestrator's machine joins, too; that one may have another name."""
    neighbours = dict(zip(MEMBERS, (*MEMBERS[1:], MEMBERS[0]), strict=True))
    script = f"nslookup {{neighbour}} && mkdir /tmp/www && cd /tmp/www && echo {{page}} >index.html && exec httpd -f -p {PORT}"
    allocations: dict[str, dict[str, Any]] = {
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
    nodes: dict[str, dict[str, object]] = {
        home: {"allocations": [m for m in MEMBERS if HOMES[m] == home], "peer": net.node(node).peer_id}
        for home, node in (("left", "node1"), ("right", "node2"))
    }
    allocations["third"]["dns_name"] = third
    if ports:
        nodes["right"]["ports"] = [{"allocation": "third", **port} for port in ports]
    path = directory / f"{name}.json"
    document = {"allocations": allocations, "nodes": nodes, "subnet": {"join": bool(ports)}}
    path.write_text(json.dumps({"v1": document}))
    return path


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
    ports: list[dict[str, object]] = [
        {"public": free_port(socket.SOCK_STREAM, 30000), "private": PORT},
        {"public": 0, "private": PORT},
        {"public": free_port(socket.SOCK_DGRAM, 31000), "private": UDP_PORT, "protocol": "udp"},
        {"public": 0, "private": UDP_PORT, "protocol": "udp"},
    ]
    path = ensemble(net, tmp_path_factory.mktemp("ensemble"), ports=ports)
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


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def free_port(kind: socket.SocketKind, first: int) -> int:
    """Of those that a provider gives away, one that nobody has."""
    for port in range(first, first + 1000):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise AssertionError("none is free")


@contextmanager
def echoing(job: Job, member: str) -> Iterator[None]:
    """A server in the network of a member that sends back what comes by UDP."""
    task = json.dumps([["echo", str(UDP_PORT)]])
    command = ["nsenter", "--net", "--target", job.pid(member), sys.executable, str(LOOK), task]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        try:
            yield
        finally:
            server.kill()


def test_its_ports_are_reached_from_outside_and_by_name_from_inside(job: Job) -> None:
    """By TCP and UDP, at ports that were chosen and that were given, public and private, over both families."""
    told = job.facts()["third"]
    ports = {"http": [port for port in told["ports"] if port not in told["udp_ports"]], "udp": told["udp_ports"]}
    assert {kind: len(each) for kind, each in ports.items()} == {"http": 2, "udp": 2}
    inside = {"http": [*ports["http"], PORT], "udp": [*ports["udp"], UDP_PORT]}
    answers = {"http": "pages third", "udp": "ok"}
    with echoing(job, "third"):
        outside = [(kind, "127.0.0.1", public) for kind, each in ports.items() for public in each]
        assert job.look("", *outside) == [answers[kind] for kind, *_ in outside]
        for one in MEMBERS:  # itself included
            addresses = job.look(one, ("ask", "third", "A"), ("ask", "third", "AAAA"))
            tasks = [(kind, ip, port) for kind, each in inside.items() for port in each for ip in addresses]
            assert dict(zip(tasks, job.look(one, *tasks), strict=True)) == {task: answers[task[0]] for task in tasks}


def test_names_are_answered_in_all_their_forms(job: Job) -> None:
    address = job.facts()["third"]["private_address"]
    ((six,), (gateway,)) = job.look("first", ("ask", "third", "AAAA")), [address.rpartition(".")[0] + ".1"]
    assert six.startswith("fd")
    wanted: dict[tuple[str, ...], str] = {
        ("third", "A"): address,
        ("third.internal", "A"): address,
        ("THIRD.Internal.", "A"): address,
        ("third.", "A"): address,
        (address, "PTR"): "third.internal.",
        (six, "PTR"): "third.internal.",
        ("_tcp.third", "SRV"): f"0 0 {PORT} third.internal.",
        (f"_{PORT}._tcp.third.internal", "SRV"): f"0 0 {PORT} third.internal.",
        ("_udp.third", "SRV"): f"0 0 {UDP_PORT} third.internal.",
        ("nobody.internal", "A"): "NXDOMAIN",
    }
    for server in ((), (gateway,)):
        found = job.look("first", *(("ask", *question, *server) for question in wanted))
        assert dict(zip(wanted, found, strict=True)) == wanted


def test_the_machine_of_the_orchestrator_is_a_member(job: Job, net: LocalNet) -> None:
    resolved = run_nunet("subnet", "resolve", job.id, "third", env=net.environment)
    address = resolved.out.strip()
    assert address == job.facts()["third"]["private_address"]
    gateway = address.rpartition(".")[0] + ".1"
    found = job.look("", ("http", address, PORT), ("ask", "third", "A", gateway), ("ask", "orchestrator", "A", gateway))
    assert found[:2] == ["pages third", address]
    assert found[2] in printed("ip", "addr")
    (device,) = [one["ifname"] for one in json.loads(printed("ip", "-j", "link")) if job.id in one.get("ifalias", "")]
    printed("ip", "link", "delete", device)  # by hand; it is put back
    deadline = time.monotonic() + 30
    while job.look("", ("http", address, PORT)) != ["pages third"]:
        assert time.monotonic() < deadline


def test_its_status_tells_who_is_where_and_what_passed(job: Job, net: LocalNet) -> None:
    job.page("first", "third")
    reply = json.loads(run_nunet("subnet", "status", job.id, "--output", "json", env=net.environment).out)
    assert {machine["mode"] for machine in reply["machines"].values()} == {"kernel"}
    others = [each for machine in reply["machines"].values() for each in machine["members"] if not each.get("is_own")]
    assert len(others) == 6
    busy = {each["names"][0] for each in others if each.get("packets_in") and each.get("packets_out")}
    assert {"first", "third"} <= busy
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
        assert others.look("first", ("ask", "renamed", "A")) == ["NXDOMAIN"]
        renamed = ensemble(net, tmp_path, "others", third="renamed")
        done = run_nunet("update", others.id, renamed, "--healthy-for", "1s", env=net.environment)
        assert done.code == 0, done
        (address, gone) = others.look("first", ("ask", "renamed", "A"), ("ask", "third", "A"))
        assert gone == "NXDOMAIN"
        assert others.look("first", ("http", address, PORT)) == ["others third"]
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


def test_files_go_in_and_come_back(job: Job, net: LocalNet, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "in").mkdir(parents=True)
    for name in ("big", "in/small"):
        (source / name).write_bytes(os.urandom(700_000 if name == "big" else 10))
    for arguments in ((source, "third:/tmp/"), ("third:/tmp/tree", tmp_path / "back")):
        done = run_nunet("cp", job.id, *arguments, env=net.environment)
        assert (done.code, done.out, done.err) == (0, "", "")
    for name in ("big", "in/small"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    done = run_nunet("cp", job.id, "third:/tmp/none", tmp_path / "x", env=net.environment)
    assert (done.code, done.err) == (1, "Error: third: tar: none: No such file or directory\n")
    assert job.inside("third", "busybox", "rm", "/bin/tar").returncode == 0
    done = run_nunet("cp", job.id, "third:/tmp/tree", tmp_path / "x", env=net.environment)
    assert (done.code, done.err.splitlines()[0]) == (4, "Error: there is no tar in third")


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


@pytest.mark.vm
def test_a_machine_and_a_container_find_each_other_also_after_the_daemon_was_killed(
    net: LocalNet, engine: TestEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Path(net.node("node1").config).parent / "work" / "images"
    need_modules(make_images(images))
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    done = run_nunet("deploy", "-f", mixed(net, tmp_path), "--wait", env=net.environment)
    assert done.code == 0, done
    pair = Pair(net, done.out.strip(), engine)
    try:
        pair.await_pages()
        pair.assert_all_ports_are_reached()
        assert "nunet0" not in {name for _, name in socket.if_nameindex()}
        net.end("node1")
        net.start("node1")
        net.await_connected()
        pair.await_pages()
        (runner,) = [each for each in net.programs("node1") if "vm_runner" in " ".join(each.cmdline())]
        own = Path(f"/proc/{runner.pid}/ns/net").stat().st_ino
        assert own != Path("/proc/self/ns/net").stat().st_ino
    finally:
        done = run_nunet("shutdown", pair.id, env=net.environment)
    assert done.code == 0, done
    assert own not in {namespace_of(process) for process in psutil.process_iter()}


def mixed(net: LocalNet, directory: Path) -> Path:
    """A web server in a microVM with a public port, and one in a container."""
    serve = "mkdir -p /tmp/www && cd /tmp/www && echo the {} >index.html && exec httpd -f -p 8080"
    shared = {
        "type": "service",
        "resources": {"cpu": {"cores": 0.2}, "ram": {"size": 1 << 26}, "disk": {"size": 1 << 26}},
    }
    machine = {
        "kernel_image": "vmlinuz",
        "root_file_system": "root",
        "kernel_modules": "modules",
        "cmd": ["sh", "-c", f"/bin/udp_echo & {serve.format('machine')}"],
    }
    container = {"image": IMAGE, "entrypoint": ["/bin/sh", "-c"], "cmd": [serve.format("shop")]}
    allocations = {
        "machine": shared
        | {"executor": "qemu", "execution": {"type": "qemu", "params": machine}}
        | {"resources": {"cpu": {"cores": 1}, "ram": {"size": 192 << 20}, "disk": {"size": 1 << 26}}},
        "shop": shared | {"executor": "docker", "execution": {"type": "docker", "params": container}},
    }
    nodes = {
        "metal": {
            "allocations": ["machine"],
            "peer": net.node("node1").peer_id,
            "ports": [
                {"private": PORT, "allocation": "machine"},
                {"private": PORT, "allocation": "machine", "public": free_port(socket.SOCK_STREAM, 30100)},
                {"private": ECHO_PORT, "allocation": "machine", "protocol": "udp"},
                {
                    "private": ECHO_PORT,
                    "allocation": "machine",
                    "protocol": "udp",
                    "public": free_port(socket.SOCK_DGRAM, 31100),
                },
            ],
        },
        "dock": {"allocations": ["shop"], "peer": net.node("node2").peer_id},
    }
    path = directory / "mixed.json"
    path.write_text(json.dumps({"v1": {"allocations": allocations, "nodes": nodes}}))
    return path


@dataclass(frozen=True)
class Pair:
    """A deployment of a microVM and a container."""

    net: LocalNet
    id: str
    engine: TestEngine

    def run(self, member: str, script: str) -> str:
        """What a script says inside of a member; empty when nobody can be asked now."""
        done = run_nunet("exec", self.id, member, "--", "/bin/busybox", "sh", "-c", script, env=self.net.environment)
        return done.out.replace("\r", "")

    def page_of(self, one: str, other: str, port: int = PORT) -> str:
        """What the server of one is told by that of the other, which it finds by its name."""
        find = f"/bin/busybox nslookup {other}.internal | /bin/busybox sed -n 's/^Address[: 1]*\\(10[0-9.]*\\)$/\\1/p'"
        ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 $({find}) {port}"
        return self.run(one, ask)

    def await_pages(self) -> None:
        """Return when each gets the page of the other."""
        deadline = time.monotonic() + 60
        pages = ("", "")
        while "200 OK" not in pages[0] or "200 OK" not in pages[1]:
            assert time.monotonic() < deadline, pages
            pages = (self.page_of("machine", "shop"), self.page_of("shop", "machine"))
        assert pages[0].endswith("\nthe shop\n")
        assert pages[1].endswith("\nthe machine\n")

    def assert_all_ports_are_reached(self) -> None:
        """Those of the machine: from outside, and from the container by TCP and UDP, at both numbers, over both families."""
        info = json.loads(run_nunet("info", self.id, "--output", "json", env=self.net.environment).out)
        told = next(each for key, each in info["allocations"].items() if key.endswith(".machine"))
        ports = {"http": [port for port in told["ports"] if port not in told["udp_ports"]], "udp": told["udp_ports"]}
        assert {kind: len(each) for kind, each in ports.items()} == {"http": 2, "udp": 2}
        answers = {"http": "the machine", "udp": "ok"}
        outside = [(kind, "127.0.0.1", public) for kind, each in ports.items() for public in each]
        assert dict(zip(outside, look("", *outside), strict=True)) == {task: answers[task[0]] for task in outside}
        inside = {"http": [*ports["http"], PORT], "udp": [*ports["udp"], ECHO_PORT]}
        shop = self.engine.pid_of(f"{self.id}_dock.shop-1")
        addresses = look(shop, ("ask", "machine", "A"), ("ask", "machine", "AAAA"))
        tasks = [(kind, ip, port) for kind, each in inside.items() for port in each for ip in addresses]
        assert dict(zip(tasks, look(shop, *tasks), strict=True)) == {task: answers[task[0]] for task in tasks}


def namespace_of(process: psutil.Process) -> int:
    """The number of its network namespace; 0 when it is gone."""
    try:
        return Path(f"/proc/{process.pid}/ns/net").stat().st_ino
    except OSError:
        return 0


def test_nothing_of_it_stays(job: Job, net: LocalNet) -> None:
    assert len(job.containers()) == 2 * len(MEMBERS), "also of what ended when the daemon was killed"
    assert len(job.networks()) == len(set(HOMES.values()))
    before = printed("ip", "link")
    done = run_nunet("shutdown", job.id, env=net.environment)
    assert done.code == 0, done
    assert job.containers() == []
    assert job.id in before
    look_until(lambda: job.id not in printed("ip", "link"))
    assert chains_of(net.node().peer_id) not in printed("iptables-save")
    assert job.networks() == []
