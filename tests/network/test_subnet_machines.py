"""A microVM as member of a private network: its address is inside its guest, its namespace ends with it."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random

import pytest
import trio
from tests.modules import need_modules
from tests.network.test_subnet_namespaces import (
    CIDR,
    GATEWAY,
    ID,
    SERVE,
    Member,
    fetch,
    listening,
    path_of,
    resolvers,
    run_in,
    serving,
    state_of,
)
from tests.network.worlds import WAIT_S, World, until

from dms.executor.cpio import CpioWriter
from dms.executor.initrd import find_modules
from dms.executor.protocol import PROTOCOLS, ExecutionRequest, PortBinding
from dms.executor.qemu import QemuExecutor
from dms.executor.vm import MODULES, NETWORK_MODULES
from dms.executor.vm_network import DEVICE
from dms.network import Network
from dms.node.endpoints import Endpoint, connect
from dms.node.memberships import member_at
from dms.subnet.kernel import LinuxKernel
from dms.subnet.subnets import Subnets
from dms.testing.netns import Namespace, namespaces
from dms.testing.vms import make_images
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

pytestmark = [pytest.mark.netns, pytest.mark.vm]

MACHINE = "ensemble-one_left.machine-1"
PUBLIC, PRIVATE = 18080, 80
ADDRESS = "10.1.2.2"
LARGE = 300_000
"""Bytes: more than what passes a device at once."""
MEMBER = member_at(EnsembleID(ID), IPv4Network(CIDR), IPv4Address(ADDRESS))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_images(tmp_path_factory.mktemp("images"))
    need_modules(made)
    return made


@dataclass
class Machine:
    """The machine, and the networks of the daemon that started or found it."""

    executor: QemuExecutor
    subnets: Subnets
    leads_in: bool = False
    """Whether the network is to lead this machine's public port in, as for backends that bind none."""
    joined: list[Path] = field(default_factory=list)

    async def join(self, namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
        ports = [("tcp", PUBLIC, PRIVATE)]
        subnet = self.subnets.get(ID)
        await subnet.attach(ADDRESS, namespace, ports=ports, guest=behind, published=() if self.leads_in else published)
        self.joined.append(namespace)

    async def run(self, command: str) -> str:
        told = await self.executor.exec(MACHINE, ("sh", "-c", command))
        assert told.exit_code == 0, told
        return told.stdout.decode()


@asynccontextmanager
async def daemon(
    network: Network, machine: Namespace, images: Path, directory: Path, table: dict[str, PeerID], names: dict[str, str]
) -> AsyncIterator[Machine]:
    """What one life of a daemon has."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        subnets = Subnets(network, LinuxKernel(network.peer_id, namespace=path_of(machine)), rng=Random(1))
        await stack.enter_async_context(subnets.run())
        (await subnets.create(ID, CIDR, table)).add_names(names)
        binary = Path(shutil.which("qemu-system-x86_64") or "")
        executor = QemuExecutor(nursery, directory / "state", image_dirs=[images], binary=binary, uses_kvm=False)
        try:
            yield Machine(executor, subnets)
        except BaseException:
            with trio.CancelScope(shield=True):
                await executor.cleanup()
            raise
        nursery.cancel_scope.cancel()


def request(directory: Path, public: int) -> ExecutionRequest:
    pages = (
        f"printf 'hello from the machine' >/www/index.html; yes . | busybox tr -d '\\n' | head -c {LARGE} >/www/large"
    )
    serve = f"mkdir /www; {pages}; httpd -f -p 80 -h /www"
    params: dict[str, object] = {
        "kernel_image": "vmlinuz",
        "root_file_system": "root",
        "kernel_modules": "modules",
        "cmd": ["sh", "-c", serve],
    }
    return ExecutionRequest(
        "job",
        MACHINE,
        SpecConfig(type="qemu", params=params),
        Resources(cpu=CPU(cores=1), ram=RAM(size=192 << 20), disk=Disk(size=4 << 20)),
        directory / "results",
        ports=(PortBinding("127.0.0.1", public, PRIVATE),),
        member=MEMBER,
    )


def network_namespaces() -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(process.stat().st_ino)
        except OSError:
            continue
    return found


async def page(place: str, port: int) -> str:
    with trio.fail_after(WAIT_S):
        async with await trio.open_tcp_stream(place, port) as stream:
            await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join([chunk async for chunk in stream]).decode()


async def test_a_machine_and_a_container_reach_each_other_by_name_also_after_the_daemon_was_away(
    images: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with namespaces(3) as (m1, m2, inside), ExitStack() as stack:
        other = Member("other", "10.1.2.3", inside)
        stack.enter_context(resolvers([other]))
        stack.enter_context(serving(other, SERVE, "other", "8080"))
        await listening(inside, 8080)
        before = [state_of(each) for each in (m1, m2)]
        async with trio.open_nursery() as nursery, AsyncExitStack() as outer:
            world = World("libp2p", nursery)
            left, right = await world.start(), await world.start()
            await right.connect(left.listen_addresses[0])
            table = {ADDRESS: left.peer_id, other.address: right.peer_id}
            names = {"machine": ADDRESS, "other": other.address}
            there = Subnets(right, LinuxKernel(right.peer_id, namespace=path_of(m2)), rng=Random(2))
            await outer.enter_async_context(there.run())
            subnet = await there.create(ID, CIDR, table)
            subnet.add_names(names)
            await subnet.attach(other.address, path_of(inside))

            async def all_of_it(machine: Machine) -> None:
                """Each reaches the other, whatever it takes."""
                found = re.findall(r"Address: (10[.0-9]+)\n", await machine.run("/bin/busybox nslookup other.internal"))
                ask = f"printf 'GET /3 HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 {found[-1]} 8080"
                answer = await machine.run(ask)
                assert "200 OK" in answer
                assert f"other {ADDRESS}" in answer
                assert int(await machine.run(f"{ask.replace('/3', f'/{LARGE}')} | /bin/busybox wc -c")) > LARGE
                assert await fetch(inside, f"http://machine:{PRIVATE}/large") == str(LARGE)
                for place in (f"machine:{PRIVATE}", f"machine.internal:{PUBLIC}", f"[{MEMBER.ipv6.ip}]:{PRIVATE}"):
                    assert await fetch(inside, f"http://{place}/") == "hello from the machine 0"
                assert "hello from the machine" in await page("127.0.0.1", port)

            asked = request(tmp_path, port)
            async with daemon(left, m1, images, tmp_path, table, names) as machine:
                await machine.executor.start(replace(asked, join=machine.join))
                lines = await machine.run("cat /etc/resolv.conf; /bin/busybox ip addr; /bin/busybox ip -6 route")
                assert f"nameserver {GATEWAY}\n" in lines
                assert f"inet {ADDRESS}/24" in lines
                assert str(MEMBER.ipv6.ip) in lines
                assert "mtu 1420" in lines
                await until(lambda: machine.subnets.get(ID).status().attached == (ADDRESS,))
                await all_of_it(machine)
                assert not {"nunet0", DEVICE} & {name for _, name in socket.if_nameindex()}, "nothing on the host"
                assert state_of(m1) == before[0]
            async with daemon(left, m1, images, tmp_path, table, names) as machine:
                machine.leads_in = True
                await run_in(m1, "sysctl", "-qw", "net.ipv4.ip_forward=1")
                await machine.executor.start(replace(asked, join=machine.join))
                assert len(machine.joined) == 1
                assert await fetch(m2, f"http://{m1.address}:{PUBLIC}/") == "hello from the machine 0"
                await all_of_it(machine)
                pipe = await connect(Endpoint(ADDRESS, PRIVATE, machine.joined[0]))
                await pipe.write(b"GET / HTTP/1.0\r\n\r\n")
                assert b"200 OK" in await pipe.read(1000), "as a stream to any port of it"
                await pipe.reset()
                own = machine.joined[0].stat().st_ino
                assert own in network_namespaces()
                await machine.executor.remove(MACHINE)
                await until(lambda: machine.subnets.get(ID).status().attached == ())
            await outer.aclose()
            world.end()
        assert [state_of(each) for each in (m1, m2)] == before
    assert own not in network_namespaces()


INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /etc
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
for module in /modules/*.ko; do insmod "$module"; done
ip link set eth0 up
udhcpc -i eth0 -f -q -n -t 20 -T 1 -s /told
nslookup other.internal
poweroff -f
"""
TOLD = """#!/bin/busybox sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
echo "nameserver $dns" >/etc/resolv.conf
echo "given $ip/$mask, mtu $(cat /sys/class/net/eth0/mtu), router ${router:-none}"
"""


async def test_an_image_of_its_own_asks_for_its_address_and_finds_others_by_name(images: Path, tmp_path: Path) -> None:
    write_own_image(images)
    async with trio.open_nursery() as nursery:
        world = World("libp2p", nursery)
        network = await world.start()
        with namespaces(1) as (machine,):
            table = {ADDRESS: network.peer_id, "10.1.2.3": network.peer_id}
            async with daemon(network, machine, images, tmp_path, table, {"other": "10.1.2.3"}) as here:
                own: dict[str, object] = {
                    "kernel_image": "vmlinuz",
                    "root_file_system": "image",
                    "initrd_path": "own",
                    "kernel_args": "quiet",
                }
                asked = replace(request(tmp_path, 0), engine=SpecConfig(type="qemu", params=own), ports=())
                await here.executor.start(replace(asked, join=here.join))
                with trio.fail_after(4 * WAIT_S):
                    result = await here.executor.wait(MACHINE)
                assert result.stdout_path is not None
                said = result.stdout_path.read_text().replace("\r", "")
                assert f"given {ADDRESS}/24, mtu 1420, router none\n" in said, said
                assert "Address: 10.1.2.3\n" in said, said
        world.end()


def write_own_image(images: Path) -> None:
    """An image that knows nothing of us: its init asks for its address as others do."""
    (images / "image").write_bytes(bytes(512))
    with (images / "own").open("wb") as file:
        archive = CpioWriter(file)
        archive.directory("dev")
        archive.device("dev/console", 0o600, 5, 1)
        archive.file("bin/busybox", (images / "root" / "bin" / "busybox").read_bytes(), 0o755)
        archive.file("init", INIT.encode(), 0o755)
        archive.file("told", TOLD.encode(), 0o755)
        for index, (name, data) in enumerate(find_modules(images / "modules", (*MODULES, *NETWORK_MODULES))):
            archive.file(f"modules/{index:02d}-{name}.ko", data)
        archive.finish()
