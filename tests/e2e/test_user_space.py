"""Machines whose daemon may make no devices take part in private networks by streams."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import pytest
from tests.modules import need_modules

from dms.testing.dockerd import IMAGE, TestEngine
from dms.testing.localnet import LocalNet, nunet_command, run_nunet
from dms.testing.vms import make_images

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.netns, pytest.mark.xdist_group("docker")]

HOMES = {"packets": "node1", "streams": "node2"}
PORT, WASM_PORT = 8080, 80
MODULES = {"module": "node1", "bare": "node2"}
"""WebAssembly servers beside them."""
HELLO = Path(__file__).parents[2] / "examples" / "programs" / "hello.wasm"
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")


@dataclass(frozen=True)
class Job:
    """A deployment of two web servers, and what they run on."""

    net: LocalNet
    id: str
    engine: TestEngine

    def inside(self, member: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of a member, as the machine's owner could."""
        return self.engine.inside(f"{self.id}_{member}.{member}-1", *command)

    def page(self, one: str, other: str, port: int = PORT) -> str:
        """What one member fetches from another, which it finds by its name."""
        found = self.inside(one, "nslookup", other).stdout.partition("Name:")[2]
        for address in re.findall(r"^Address:?\s*(?:1:\s*)?(10\.[0-9.]+)$", found, re.MULTILINE):
            return self.ask(one, address, port, "GET / HTTP/1.0")
        return ""

    def ask(self, one: str, host: str, port: int, *head: str) -> str:
        """What a server answers to one member."""
        request = "".join(f"{line}\\r\\n" for line in (*head, ""))
        return self.inside(one, "sh", "-c", f"printf '{request}' | nc -w 10 {host} {port}").stdout

    def proxy(self, one: str) -> SplitResult:
        """What a member was told of its proxy."""
        return urlsplit(self.inside(one, "sh", "-c", "echo $http_proxy").stdout.strip())

    def proxied(self, one: str, url: str) -> str:
        """What one member fetches through its proxy, as programs that know HTTP proxies do."""
        proxy = self.proxy(one)
        secret = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        head = (f"GET {url} HTTP/1.1", "Host: x", f"Proxy-Authorization: Basic {secret}")
        return self.ask(one, proxy.hostname or "", proxy.port or 0, *head)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, engine: TestEngine) -> Iterator[LocalNet]:
    """Three nodes, two of which offer their machines; the second one may use the engine, but make no devices and enter no
    namespaces."""
    net = LocalNet(tmp_path_factory.mktemp("streams") / "net")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.host)
        done = run_nunet("devnet", "up", "-n", 3, "--dir", net.directory)
        assert done.code == 0, done
        try:
            net.end("node2")
            net.start_through("node2", *WITHOUT_RIGHTS)
            net.await_connected()
            yield net
        finally:
            run_nunet("devnet", "down", "--dir", net.directory)
            net.reap()


def server(member: str) -> dict[str, object]:
    """A container that serves a page with its name."""
    script = f"mkdir /tmp/www && cd /tmp/www && echo {member} >index.html && exec httpd -f -p {PORT}"
    params = {"image": IMAGE, "entrypoint": ["/bin/sh", "-c"], "cmd": [script]}
    return {
        "type": "service",
        "executor": "docker",
        "resources": {"cpu": {"cores": 0.2}, "ram": {"size": 1 << 26}, "disk": {"size": 1 << 26}},
        "execution": {"type": "docker", "params": params},
    }


def wasm(member: str) -> dict[str, object]:
    """The same as a WebAssembly module, at :data:`WASM_PORT`."""
    module = base64.b64encode(HELLO.read_bytes()).decode()
    return server(member) | {
        "executor": "wasm",
        "execution": {"type": "wasm", "params": {"module": module, "args": [member]}},
    }


def deploy(net: LocalNet, path: Path, allocations: dict[str, dict[str, object]], homes: dict[str, str]) -> str:
    """The id of a deployment with these allocations on these nodes, that runs; the orchestrator's machine is a member, too."""
    nodes = {
        member: {
            "allocations": [member],
            "peer": net.node(node).peer_id,
            "ports": [{"allocation": member, "private": WASM_PORT}] if member in MODULES else [],
        }
        for member, node in homes.items()
    }
    path.write_text(json.dumps({"v1": {"allocations": allocations, "nodes": nodes, "subnet": {"join": True}}}))
    done = run_nunet("deploy", "-f", path, "--wait", env=net.environment)
    assert done.code == 0, done
    return done.out.strip()


@pytest.fixture(scope="module")
def job(net: LocalNet, engine: TestEngine, tmp_path_factory: pytest.TempPathFactory) -> Job:
    path = tmp_path_factory.mktemp("ensemble") / "job.json"
    allocations = {member: server(member) for member in HOMES} | {member: wasm(member) for member in MODULES}
    return Job(net, deploy(net, path, allocations, HOMES | MODULES), engine)


def test_who_has_a_device_reaches_who_has_none_by_name_and_notices_nothing(job: Job) -> None:
    page = job.page("packets", "streams")
    assert "200 OK" in page
    assert page.endswith("\nstreams\n")
    assert "nunet0" in job.inside("packets", "ip", "addr").stdout


def test_so_does_the_machine_of_the_orchestrator(job: Job, net: LocalNet) -> None:
    for member in HOMES:
        address = run_nunet("subnet", "resolve", job.id, member, env=net.environment).out.strip()
        with urllib.request.urlopen(f"http://{address}:{PORT}/", timeout=30) as answer:
            assert answer.read().decode() == f"{member}\n"
    address = run_nunet("subnet", "resolve", job.id, "streams", env=net.environment).out.strip()
    with pytest.raises(OSError, match="Connection re"):  # it is reset, not left open
        urllib.request.urlopen(f"http://{address}:{PORT + 1}/", timeout=30)


@pytest.mark.parametrize("other", ["packets", "streams", "PACKETS.internal."])
def test_who_has_no_device_reaches_the_others_through_its_proxy(job: Job, other: str) -> None:
    assert "nunet0" not in job.inside("streams", "ip", "addr").stdout
    page = job.proxied("streams", f"http://{other}:{PORT}/")
    assert "200 OK" in page
    assert page.endswith(f"\n{other.split('.')[0].lower()}\n")


@pytest.mark.parametrize("member", MODULES)
def test_a_webassembly_server_is_reached_by_name_by_its_owner_and_from_outside(
    job: Job, net: LocalNet, member: str
) -> None:
    told = json.loads(run_nunet("info", job.id, "--output", "json", env=net.environment).out)["allocations"]
    facts = told[f"{member}.{member}"]
    (public,) = facts["ports"]
    for port in (WASM_PORT, public):
        assert job.page("packets", member, port).endswith(f"\n{member}\n")
        assert job.proxied("streams", f"http://{member}:{port}/").endswith(f"\n{member}\n")
    with urllib.request.urlopen(f"http://127.0.0.1:{public}/", timeout=30) as answer:
        assert answer.read().decode() == f"{member}\n"
    command = nunet_command("port-forward", "--stdio", job.id, member, WASM_PORT)
    request = b"GET / HTTP/1.0\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, env=os.environ | net.environment, check=True)
    assert done.stdout.endswith(f"\n{member}\n".encode())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl; enable with: apt-get install -y curl")
def test_programs_that_know_socks_find_it_in_their_environment(job: Job) -> None:
    told = job.inside("streams", "env").stdout.splitlines()
    (proxy,) = [line.partition("=")[2] for line in told if line.startswith("ALL_PROXY=")]
    command = ["curl", "-sS", "--noproxy", "", "--proxy", proxy, f"http://packets:{PORT}/"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "packets\n"
    wrong = proxy.replace("socks5h://", "socks5h://x")
    assert (
        subprocess.run([*command[:5], wrong, command[6]], capture_output=True, timeout=60, check=False).returncode == 97
    )


def test_the_proxy_is_for_those_who_were_told_of_it_and_no_way_around_walls(job: Job) -> None:
    proxy = job.proxy("streams")
    answer = job.ask("streams", proxy.hostname or "", proxy.port or 0, f"GET http://packets:{PORT}/ HTTP/1.0")
    assert answer.startswith("HTTP/1.1 407 ")
    for url in ("http://127.0.0.1:1/", f"http://{proxy.hostname}:1/", "http://169.254.169.254/"):
        answer = job.proxied("streams", url)
        assert answer.startswith("HTTP/1.1 502 ")
        assert "its address is not public" in answer
    assert "nobody in this ensemble is called nobody" in job.proxied("streams", "http://nobody/")


def test_its_owner_reaches_it_and_files_go_there(job: Job, net: LocalNet, tmp_path: Path) -> None:
    done = run_nunet("cp", job.id, "streams:/tmp/www/index.html", tmp_path / "page", env=net.environment)
    assert done.code == 0, done
    assert (tmp_path / "page").read_text() == "streams\n"
    done = run_nunet("port-forward", "--stdio", job.id, "streams", "9", env=net.environment)
    assert done.err.startswith("Error: port 9 is not reached: Connection refused")


def test_all_that_is_there_again_after_a_kill(job: Job, net: LocalNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", job.engine.host)
    net.end("node2")
    net.start_through("node2", *WITHOUT_RIGHTS)
    net.await_connected()
    deadline = time.monotonic() + 60
    while not (job.page("packets", "streams") and "200 OK" in job.proxied("streams", f"http://packets:{PORT}/")):
        assert time.monotonic() < deadline
    assert job.page("packets", "bare", WASM_PORT).endswith("\nbare\n")


@pytest.mark.vm
def test_a_microvm_reaches_who_has_no_device_by_name(
    net: LocalNet, engine: TestEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Path(net.node("node1").config).parent / "work" / "images"
    need_modules(make_images(images))
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    machine = {"kernel_image": "vmlinuz", "root_file_system": "root", "kernel_modules": "modules"}
    waiting = machine | {"cmd": ["/bin/busybox", "sleep", "600"]}
    resources = {"cpu": {"cores": 1}, "ram": {"size": 192 << 20}, "disk": {"size": 1 << 26}}
    allocations = {
        "machine": server("machine")
        | {"executor": "qemu", "resources": resources, "execution": {"type": "qemu", "params": waiting}},
        "streams": server("streams"),
    }
    homes = {"machine": "node1", "streams": "node2"}
    job = Job(net, deploy(net, tmp_path / "machine.json", allocations, homes), engine)
    try:
        find = "/bin/busybox nslookup streams.internal | /bin/busybox sed -n 's/^Address[: 1]*\\(10[0-9.]*\\)$/\\1/p'"
        ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 10 $({find}) {PORT}"
        command = ("exec", job.id, "machine", "--", "/bin/busybox", "sh", "-c", ask)
        page = run_nunet(*command, env=net.environment).out.replace("\r", "")
        assert "200 OK" in page
        assert page.endswith("\nstreams\n")
    finally:
        done = run_nunet("shutdown", job.id, env=net.environment)
    assert done.code == 0, done
