"""Private networks for real: nodes over libp2p, each member in a network namespace of its own, as containers are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
import trio
from tests.network.worlds import WAIT_S, World, until
from trio.testing import wait_all_tasks_blocked

from dms.network import Network
from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.errors import DeviceGone, KernelRefused, NamespaceGone
from dms.subnet.firewall import Rules
from dms.subnet.kernel import LinuxKernel
from dms.subnet.ports import PortMapping
from dms.subnet.subnet import Subnet
from dms.subnet.subnets import Subnets
from dms.testing.netns import Namespace, namespaces

pytestmark = pytest.mark.netns

ID, CIDR, GATEWAY = "ensemble-one", "10.1.2.0/24", "10.1.2.1"

SERVE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (sys.argv[1] + " " + self.client_address[0]).encode() + b"." * int(self.path[1:] or 0)
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Handler).serve_forever()
"""
FETCH = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
body = opener.open(sys.argv[1], timeout=float(sys.argv[2])).read()
print(body.rstrip(b".").decode(), len(body) - len(body.rstrip(b".")))
"""
UDP_ECHO = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("0.0.0.0", int(sys.argv[1])))
while True:
    data, asker = sock.recvfrom(65535); sock.sendto(data, asker)
"""
UDP_ASK = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.settimeout(5)
for size in (1, 1300, 4000):
    sock.sendto(b"x" * size, (sys.argv[1], int(sys.argv[2])))
    assert len(sock.recv(65535)) == size
print("ok")
"""
PING = """
import ipaddress, os, socket, struct, sys
address, wait_s = ipaddress.ip_address(sys.argv[1]), float(sys.argv[2])
four = address.version == 4
sock = socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_RAW, 1 if four else 58)
sock.settimeout(wait_s)
body = struct.pack(">BBHHH", 8 if four else 128, 0, 0, os.getpid() & 0xFFFF, 1) + b"payload!"
if four:
    from dms.subnet.packets import checksum
    body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
sock.sendto(body, (str(address), 0))
while True:
    data, sender = sock.recvfrom(2000)
    data = data[20:] if four else data
    if sender[0] == str(address) and data[0] == (0 if four else 129) and data[4:] == body[4:]:
        break
"""
FORGE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
from dms.subnet.packets import udp_packet
import ipaddress
packed = [ipaddress.ip_address(each).packed for each in sys.argv[1:3]]
sock.sendto(udp_packet(packed[0], 7, packed[1], 8, b"forged"), (sys.argv[2], 0))
"""


OURS = ("env", f"PYTHONPATH={Path(__file__).parents[2] / 'src'}", sys.executable, "-c")


def path_of(namespace: Namespace) -> Path:
    return Path("/run/netns") / namespace.name


async def run_in(namespace: Namespace, *command: str, ok: bool = True) -> str:
    with trio.fail_after(2 * WAIT_S):
        done = await trio.run_process(namespace.command(command), capture_stdout=True, capture_stderr=True, check=False)
    assert (done.returncode == 0) is ok, done.stderr.decode() + done.stdout.decode()
    return done.stdout.decode().strip()


async def fetch(namespace: Namespace, url: str, *, ok: bool = True) -> str:
    return await run_in(namespace, sys.executable, "-c", FETCH, url, "10" if ok else "0.7", ok=ok)


async def ping(namespace: Namespace, address: str, *, ok: bool = True) -> None:
    await run_in(namespace, *OURS, PING, address, "5" if ok else "0.7", ok=ok)


def state_of(namespace: Namespace) -> str:
    """All that a node could leave behind."""
    text = []
    for command in (
        ["ip", "-br", "addr"],
        ["ip", "route"],
        ["ip", "-6", "route"],
        ["iptables-save"],
        ["ip6tables-save"],
    ):
        done = subprocess.run(namespace.command(command), check=True, capture_output=True, text=True)
        text += [line.split(" [")[0] for line in done.stdout.splitlines() if not line.startswith("#")]
    return "\n".join(line for line in text if line != "COMMIT" and (line[:1] not in ("*", ":") or "NUNET" in line))


@dataclass
class Member:
    """One address, in a namespace of its own or on its node."""

    name: str
    address: str
    namespace: Namespace

    @property
    def ipv6(self) -> str:
        return str(to_ipv6(private_prefix(ID), IPv4Address(self.address)))


@dataclass
class Node:
    """A node whose own devices and rules live in the namespace ``machine``."""

    network: Network
    subnets: Subnets
    machine: Namespace

    @property
    def subnet(self) -> Subnet:
        return self.subnets.get(ID)


@asynccontextmanager
async def running(machines: list[Namespace], *, datagram_port: int | None = None) -> AsyncIterator[list[Node]]:
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        world = World("libp2p", nursery)
        nodes: list[Node] = []
        for number, machine in enumerate(machines):
            network = await world.start()
            if nodes:
                await network.connect(nodes[0].network.listen_addresses[0])
            kernel = LinuxKernel(network.peer_id, namespace=path_of(machine))
            subnets = Subnets(network, kernel, rng=Random(number), datagram_port=datagram_port)
            await stack.enter_async_context(subnets.run())
            nodes.append(Node(network, subnets, machine))
        yield nodes
        await stack.aclose()
        world.end()


async def deploy(nodes: list[Node], placed: Mapping[int, list[Member]], *, subnet_id: str = ID) -> None:
    """What provisioning will do: create everywhere, give addresses and names."""
    table = {m.address: nodes[index].network.peer_id for index, members in placed.items() for m in members}
    names = {m.name: m.address for members in placed.values() for m in members}
    for index, node in enumerate(nodes):
        subnet = await node.subnets.create(subnet_id, CIDR, table)
        subnet.add_names(names)
        for member in placed.get(index, []):
            await subnet.attach(member.address, path_of(member.namespace), ports=[("tcp", 18080, 8080)])


@contextmanager
def resolvers(members: list[Member]) -> Iterator[None]:
    """Their resolver is the gateway: ``ip netns exec`` mounts this file over the one of the machine."""
    with ExitStack() as stack:
        for member in members:
            folder = Path("/etc/netns") / member.namespace.name
            folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, folder)
            (folder / "resolv.conf").write_text(f"nameserver {GATEWAY}\noptions timeout:2 attempts:2\n")
        yield


@contextmanager
def serving(member: Member, program: str, *arguments: str) -> Iterator[None]:
    with member.namespace.process([sys.executable, "-c", program, *arguments]):
        yield


async def listening(namespace: Namespace, port: int, kind: str = "-ltn") -> None:
    with trio.fail_after(WAIT_S):
        while f":{port} " not in await run_in(namespace, "ss", kind):  # noqa: ASYNC110
            await trio.sleep(0.05)


@pytest.mark.parametrize("path", ["direct", "datagram"])
async def test_every_member_reaches_every_other_by_name_address_and_both_families(path: str) -> None:
    with namespaces(5) as (m1, m2, n1, n2, n3):
        one, two, three = Member("one", "10.1.2.2", n1), Member("two", "10.1.2.3", n2), Member("three", "10.1.2.4", n3)
        everybody = [one, two, three]
        before = [state_of(each) for each in (m1, m2)]
        async with running([m1, m2], datagram_port=0 if path == "datagram" else None) as nodes:
            with resolvers(everybody), ExitStack() as stack:
                await deploy(nodes, {0: [one, two], 1: [three]})
                for member in everybody:
                    stack.enter_context(serving(member, SERVE, member.name, "8080"))
                    stack.enter_context(serving(member, UDP_ECHO, "9999"))
                for member in everybody:
                    await listening(member.namespace, 8080)
                    await listening(member.namespace, 9999, "-lun")
                for source in everybody:
                    await ping(source.namespace, GATEWAY)
                    for target in everybody:
                        if source is target:
                            continue
                        await ping(source.namespace, target.address)
                        await ping(source.namespace, target.ipv6)
                        wanted = f"{target.name} {source.address} 200000"
                        assert await fetch(source.namespace, f"http://{target.name}.internal:8080/200000") == wanted
                for source, target in ((one, three), (one, two)):
                    asked = await run_in(source.namespace, sys.executable, "-c", UDP_ASK, target.address, "9999")
                    assert asked == "ok"
                    public = await fetch(source.namespace, f"http://{target.name}:18080/5")
                    assert public == f"{target.name} {source.address} 5", "the public port, from inside"
            status = nodes[0].subnet.status()
            other = next(member for member in status.members if not member.is_own)
            assert (other.path, other.names) == (path, ("three",))
            assert other.rtt_s is not None
            assert not other.drops
        assert [state_of(each) for each in (m1, m2)] == before, "nothing is left"
        for member in everybody:
            assert "nunet0" not in await run_in(member.namespace, "ip", "addr")


async def test_a_forged_source_is_dropped_and_counted_and_a_second_network_is_apart() -> None:
    with namespaces(5) as (m1, m2, n1, n2, n3):
        async with running([m1, m2]) as nodes:
            one, two = Member("one", "10.1.2.2", n1), Member("two", "10.1.2.3", n2)
            stranger = Member("stranger", "10.1.2.4", n3)
            await deploy(nodes, {0: [one], 1: [two]})
            await deploy(nodes, {1: [stranger]}, subnet_id="ensemble-two")
            await ping(n1, two.address)
            await run_in(n1, *OURS, FORGE, "10.1.2.9", two.address)
            await until(lambda: nodes[0].subnet.status().drops.get("forged source") == 1)

            await ping(n1, stranger.address, ok=False)
            await ping(n3, one.address, ok=False)
            await ping(n1, "10.77.0.1", ok=True)  # of the bridge between the namespaces, not of the private network
            assert nodes[0].subnet.status().drops["no route"] >= 1


async def test_a_member_that_leaves_reaches_nobody_and_one_that_restarts_has_its_address_again() -> None:
    with namespaces(4) as (m1, m2, n1, n2):
        async with running([m1, m2]) as nodes:
            one, two = Member("one", "10.1.2.2", n1), Member("two", "10.1.2.3", n2)
            await deploy(nodes, {0: [one], 1: [two]})
            await ping(n1, two.address)
            with namespaces(1) as (fresh,):
                await nodes[1].subnet.attach(two.address, path_of(fresh))
                await ping(n1, two.address)
                await ping(fresh, one.address)
            await until(lambda: nodes[1].subnet.status().attached == ())
            await ping(n1, two.address, ok=False)
            with pytest.raises(NamespaceGone):
                await nodes[1].subnet.attach(two.address, Path("/run/netns/none"))
            await nodes[1].subnet.attach(two.address, path_of(n2))
            await ping(n1, two.address)
            await nodes[1].subnet.remove_peer(nodes[0].network.peer_id)
            await ping(n1, two.address, ok=False)


async def test_public_ports_lead_in_and_the_host_stays_closed() -> None:
    with namespaces(4) as (m1, m2, n1, n2):
        one, two = Member("one", "10.1.2.2", n1), Member("two", "10.1.2.3", n2)
        before = state_of(m1)
        async with running([m1, m2]) as nodes:
            await deploy(nodes, {0: [one], 1: [two]})
            await run_in(m1, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            with serving(one, SERVE, "one", "8080"), serving(one, UDP_ECHO, "9999"), ExitStack() as stack:
                host = Member("host", "", m1)
                stack.enter_context(serving(host, SERVE, "host", "7000"))
                for namespace, port in ((n1, 8080), (m1, 7000)):
                    await listening(namespace, port)
                await listening(n1, 9999, "-lun")
                web = await nodes[0].subnet.map_port(PortMapping("tcp", 0, IPv4Address(one.address), 8080))
                udp = PortMapping("udp", 19999, IPv4Address(one.address), 9999)
                assert await nodes[0].subnet.map_port(udp) == udp
                outside = f"http://{m1.address}:{web.public}/5"
                assert await fetch(n2, outside) == f"one {GATEWAY} 5"
                assert await fetch(m1, outside) == f"one {GATEWAY} 5"
                assert await fetch(m1, f"http://127.0.0.1:{web.public}/70000") == f"one {GATEWAY} 70000"
                assert await run_in(n2, sys.executable, "-c", UDP_ASK, m1.address, "19999") == "ok"
                await fetch(n1, f"http://{GATEWAY}:7000/", ok=False)
                again = replace(web, private=8081)
                with pytest.raises(Exception, match="already mapped"):
                    await nodes[0].subnet.map_port(again)
                await nodes[0].subnet.unmap_port(web)
                await fetch(n2, outside, ok=False)
                assert await run_in(n2, sys.executable, "-c", UDP_ASK, m1.address, "19999") == "ok"
        assert state_of(m1) == before


async def test_the_machine_itself_can_be_a_member_and_serves_nothing_it_did_not_mean_to() -> None:
    with namespaces(3) as (m1, m2, n2):
        orchestrator, two = Member("orchestrator", "10.1.2.2", m1), Member("two", "10.1.2.3", n2)
        before = state_of(m1)
        async with running([m1, m2]) as nodes:
            table = {"10.1.2.2": nodes[0].network.peer_id, "10.1.2.3": nodes[1].network.peer_id}
            for node in nodes:
                await node.subnets.create(ID, CIDR, table)
            await nodes[0].subnet.attach(orchestrator.address)
            await nodes[1].subnet.attach(two.address, path_of(n2))
            with serving(orchestrator, SERVE, "host", "7000"), serving(two, SERVE, "two", "8080"):
                await listening(m1, 7000)
                await listening(n2, 8080)
                assert await fetch(m1, f"http://{two.address}:8080/1000") == f"two {orchestrator.address} 1000"
                await fetch(n2, f"http://{orchestrator.address}:7000/", ok=False)
        assert state_of(m1) == before


async def test_what_a_killed_process_left_is_removed_at_the_next_start_and_nothing_of_others() -> None:
    with namespaces(1) as (machine,):
        before = state_of(machine)
        web = PortMapping("tcp", 18080, IPv4Address("10.1.2.3"), 80)
        rules = Rules("one", ID, "dms-0", IPv4Address(GATEWAY), (web,))
        one, other = (LinuxKernel(owner, namespace=path_of(machine)) for owner in ("one", "other"))
        await run_in(machine, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        await one.set_rules(rules)
        await one.set_rules(rules)
        mine = state_of(machine)
        await other.set_rules(replace(rules, owner="other"))
        both = state_of(machine)
        assert before != mine != both

        await one.remove_rules()
        await other.remove_rules("another network")
        left = state_of(machine)
        assert left != both
        await other.remove_rules(ID)
        assert state_of(machine) == before
        await one.remove_rules()


async def test_the_networks_of_the_machine_are_known() -> None:
    with namespaces(1) as (machine,):
        in_use = await LinuxKernel("one", namespace=path_of(machine)).networks_in_use()
        assert [str(each) for each in in_use] == ["127.0.0.0/8", "10.77.0.0/16"]


async def test_a_device_that_cannot_be_made_is_said_with_its_reason() -> None:
    with namespaces(1) as (machine,):
        kernel = LinuxKernel("one", namespace=path_of(machine))
        device = await kernel.open_device("dms-1", [], mtu=1420, alias="x", namespace=None)
        with pytest.raises(KernelRefused, match="there is a device dms-1 already"):
            await kernel.open_device("dms-1", [], mtu=1420, alias="x", namespace=None)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(DeviceGone):
                    await device.read()

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            device.close()
        device.close()
        for wrong in ("", "x" * 16):
            with pytest.raises(KernelRefused, match="cannot be the name"):
                await kernel.open_device(wrong, [], mtu=1420, alias="x", namespace=None)
        with pytest.raises(NamespaceGone):
            await kernel.open_device("dms-2", [], mtu=1420, alias="x", namespace=Path("/etc/passwd/none"))
        with pytest.raises(KernelRefused, match="cannot be entered"):
            await kernel.open_device("dms-2", [], mtu=1420, alias="x", namespace=Path("/etc/passwd"))
