"""Machines as members of private networks, on a Firecracker whose guests are played; namespaces and devices are real."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

import pytest
import trio

from dms.executor.errors import StartFailed, Unsupported
from dms.executor.firecracker import FirecrackerExecutor
from dms.executor.protocol import PROTOCOLS, ExecutionRequest, ExecutionStatus, Member, PortBinding
from dms.executor.qemu import QemuExecutor
from dms.executor.vm_machine import Machine
from dms.executor.vm_member import card_of, mac_of, may_make_networks, member_of, private_job
from dms.executor.vm_network import DEVICE
from dms.executor.vm_params import MachineParams
from dms.subnet.namespaces import run_inside
from dms.subnet.netlink import Netlink
from dms.testing.vms import make_firecracker
from dms.types.errors import Conflict
from dms.types.resources import RAM, Resources, SpecConfig

DESCRIPTION = Path(__file__).parents[2] / "data" / "firecracker-openapi.yaml"
SOURCES = Path(__file__).parents[3] / "src"
ID = "job_node.machine"
MEMBER = Member(
    IPv4Interface("10.1.2.5/24"),
    IPv6Interface("fd00::a01:205/64"),
    IPv4Address("10.1.2.1"),
    1420,
    IPv4Address("169.254.0.1"),
    IPv6Address("fe80::1"),
)


async def nobody(namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
    raise AssertionError("nobody asks for that")


def request(directory: Path, kind: str = "firecracker", **params: object) -> ExecutionRequest:
    spec: dict[str, object] = {"kernel_image": "vmlinuz", "root_file_system": "root", "cmd": ["sleep", "100"]}
    return ExecutionRequest(
        "job",
        ID,
        SpecConfig(type=kind, params=spec | params),
        Resources(ram=RAM(size=100 << 20)),
        directory / "results",
        join=nobody,
        member=MEMBER,
    )


def test_the_guest_is_told_all_that_its_card_needs() -> None:
    line = card_of(MEMBER, "52:54:00:00:00:01").line
    assert line == "52:54:00:00:00:01 10.1.2.5/24 - 10.1.2.1 1420 fd00::a01:205/128 fd00::/64 fe80::1 169.254.0.1\n"


def test_a_guest_with_an_agent_asks_nobody_for_its_address() -> None:
    assert private_job(MEMBER, is_lent=False, is_inside=True, has_agent=True)["lease"] is None
    assert private_job(MEMBER, is_lent=False, is_inside=True, has_agent=False)["lease"] == {
        "address": "10.1.2.5",
        "mask": "255.255.255.0",
        "gateway": "10.1.2.1",
        "host": "169.254.0.1",
        "mtu": 1420,
    }


def test_cards_of_one_machine_differ_and_stay_the_same() -> None:
    assert mac_of(ID, (6, 0), "/private") != mac_of(ID, (6, 0)) == mac_of(ID, (6, 0))
    assert mac_of(ID, (6, 0)).startswith("06:00:")


def test_who_is_not_asked_to_join_or_cannot_is_no_member(tmp_path: Path) -> None:
    asked = request(tmp_path)
    assert member_of(asked, "") is MEMBER
    assert member_of(replace(asked, join=None), "") is None
    assert member_of(asked, "it has no arms") is None


async def test_the_first_card_is_that_of_the_private_network_and_the_guest_waits_for_it(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    asked = replace(request(tmp_path, "qemu"), ports=(PortBinding("", 8080, 80),))
    params = MachineParams.parse(asked.engine, "qemu")
    executor = QemuExecutor(nursery, tmp_path, image_dirs=[], binary=Path("/qemu"), uses_kvm=False)
    line = " ".join(executor._argv(Machine(ID, tmp_path, params, 1, 100, "", True, (), asked, None, MEMBER)))
    private, ports = executor._private_mac(ID), executor._mac(ID)
    assert f"-S -netdev tap,id=private,fd={{private}} -device virtio-net-pci,netdev=private,mac={private}" in line
    assert ",romfile=,host_mtu=1420 -netdev user,id=net,net=192.0.2.0/24,restrict=on" in line
    assert [card.mac for card in executor._guest_cards(asked, params, MEMBER)] == [private, ports]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_firecracker(tmp_path_factory.mktemp("firecracker"), DESCRIPTION)


@dataclass
class Bench:
    """An executor, and what its machines asked for when they became members."""

    nursery: trio.Nursery
    path: Path
    program: Path
    joined: list[tuple[Path, str, Collection[str]]] = field(default_factory=list)
    seen: list[list[str]] = field(default_factory=list)

    def open(self) -> FirecrackerExecutor:
        return FirecrackerExecutor(
            self.nursery,
            self.path / "state",
            image_dirs=[self.path / "images"],
            binary=self.program,
            uses_kvm=False,
            has_own_users=False,
        )

    async def join(self, namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
        self.joined.append((namespace, behind, published))
        self.seen.append([path for _, path, _ in self.asked()])

    @property
    def run_dir(self) -> Path:
        (found,) = (self.path / "state" / "runs").iterdir()
        return found

    def asked(self) -> list[tuple[str, str, dict[str, object]]]:
        lines = (self.run_dir / "machine" / "requests.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
async def bench(program: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "images" / "root").mkdir(parents=True)
    (tmp_path / "images" / "vmlinuz").write_bytes(b"x")
    async with trio.open_nursery() as nursery:
        made = Bench(nursery, tmp_path, program)
        try:
            yield made
        finally:
            with trio.CancelScope(shield=True):
                await made.open().cleanup()
        nursery.cancel_scope.cancel()


def number_of(namespace: Path) -> int:
    return namespace.stat().st_ino


def device_there() -> tuple[int, bool]:
    with Netlink() as netlink:
        (found,) = [link for link in netlink.links() if link.name == DEVICE]
        return found.mtu, found.is_up


@pytest.mark.netns
async def test_a_machine_has_a_namespace_of_its_own_which_ends_with_it(bench: Bench) -> None:
    executor = bench.open()
    await executor.start(replace(request(bench.path), join=bench.join, ports=(PortBinding("", 8080, 80),)))
    ((namespace, behind, published),) = bench.joined
    assert (behind, published) == (DEVICE, ())
    assert set(bench.seen[0]) == {"/"}, "the network is there before the guest is"
    asked = {path: body for _, path, body in bench.asked()}
    mac = mac_of(ID, (6, 0), "/private")
    assert asked["/network-interfaces/eth0"] == {"iface_id": "eth0", "host_dev_name": DEVICE, "guest_mac": mac}
    info = await executor.info(ID)
    assert info.net is not None
    assert (info.net.namespace, info.net.ip_address) == (namespace, "")
    assert run_inside(namespace, device_there) == (1420, True)
    machine = int((bench.run_dir / "machine.pid").read_text().split()[0])
    assert number_of(namespace) == number_of(Path(f"/proc/{machine}/ns/net")) != number_of(Path("/proc/self/ns/net"))
    assert DEVICE not in {name for _, name in socket.if_nameindex()}

    await bench.open().start(replace(request(bench.path), join=bench.join))  # as after a restart of the daemon
    assert bench.joined[1][0] == namespace
    await executor.remove(ID, grace_s=0)
    assert not namespace.exists()


@pytest.mark.netns
async def test_a_machine_that_cannot_become_a_member_runs_all_the_same(bench: Bench) -> None:
    async def refuse(namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
        raise Conflict("no address is left")

    executor = bench.open()
    reasons: list[str] = []
    asked = replace(request(bench.path), join=refuse, unjoined=reasons.append)
    with pytest.raises(StartFailed, match="no private address: no address is left"):
        await executor.start(replace(asked, must_join=True))
    await executor.start(asked)
    assert await executor.status(ID) is ExecutionStatus.RUNNING
    assert reasons == ["no address is left"]


async def test_a_machine_that_cannot_be_a_member_says_why_before_it_begins(bench: Bench) -> None:
    asked = request(bench.path, tap_device="tap0", ip_address="10.0.0.2/24")
    with pytest.raises(StartFailed, match="no private address: Firecracker opens its devices in one network namespace"):
        await bench.open().start(replace(asked, must_join=True))


async def test_without_a_private_network_a_firecracker_binds_no_ports(bench: Bench) -> None:
    asked = replace(request(bench.path), join=None, ports=(PortBinding("", 8080, 80),))
    with pytest.raises(Unsupported, match="cannot bind ports"):
        await bench.open().start(asked)
    given = request(bench.path, tap_device="tap0", ip_address="10.0.0.2/24")
    with pytest.raises(Unsupported, match="cannot bind ports"):
        await bench.open().start(replace(given, ports=asked.ports))


@pytest.mark.netns
def test_who_lacks_a_right_makes_no_networks() -> None:
    assert may_make_networks()
    ask = "from dms.executor.vm_member import may_make_networks; print(may_make_networks())"
    for right in ("net_admin", "sys_admin"):
        command = ["setpriv", "--bounding-set", f"-{right}", sys.executable, "-c", ask]
        done = subprocess.run(command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


@pytest.fixture(autouse=True)
def _no_device_of_ours_is_left_on_the_host() -> Iterator[None]:
    yield
    assert DEVICE not in {name for _, name in socket.if_nameindex()}
