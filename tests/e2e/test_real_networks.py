"""The private network of an ensemble over real ones: hosts behind routers, a relay, engines and nodes of their own.

One laboratory and one deployment for all tests, which come in this order: each goes on where the one before left the world.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio

from dms.cli.following import Deployment
from dms.network.errors import NetworkError
from dms.network.libp2p import Libp2pNetwork
from dms.node.peer_payloads import PeersList
from dms.subnet import frames
from dms.subnet.messages import MemberReport, NetworkReport
from dms.subnet.namespaces import run_inside
from dms.subnet.packets import udp_packet
from dms.subnet.segments import Parcel
from dms.testing.lab import IMAGE, P2P_PORT, Host, Lab, lab
from dms.testing.looking import WAIT_S, look_until

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.netns, pytest.mark.xdist_group("docker")]

PORT = 8080
ELSEWHERE = "45.77.9.9"
HOMES = {"one": "public", "two": "public", "three": "left", "four": "right", "five": "relay"}
SERVE = f'mkdir /tmp/www && cd /tmp/www && echo "$HOSTNAME {{page}}" >index.html && exec httpd -f -p {PORT}'
"""The name of the container, too: a page tells which one it is from."""
FIND = "nslookup {name} 2>/dev/null | busybox sed -n '/^Name:/,$ s/^Address[ 0-9]*: *\\(10\\.[0-9.]*\\)$/\\1/p' | head -n 1"
GET = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 $a {PORT}"

TICKING = r"#!/bin/sh\necho Content-Type: text/plain; echo; while sleep 0.2; do echo tick; done\n"


class Ensemble:
    """A deployment of one page server for each member, that runs; ``homes`` are the hosts. Nodes of ``redundant`` hosts have
    a standby."""

    def __init__(
        self, world: Lab, directory: Path, title: str, homes: dict[str, str], redundant: tuple[str, ...] = ()
    ) -> None:
        self.world, self.title, self.homes = world, title, homes
        self._containers: dict[str, str] = {}
        allocations = {
            member: {
                "type": "service",
                "executor": "docker",
                "resources": {"cpu": {"cores": 0.1}, "ram": {"size": 1 << 26}, "disk": {"size": 1 << 26}},
                "execution": {
                    "type": "docker",
                    "params": {
                        "image": IMAGE,
                        "entrypoint": ["/bin/sh", "-c"],
                        "cmd": [SERVE.format(page=f"{title} {member}")],
                    },
                },
            }
            for member in homes
        }
        nodes = {
            f"at-{host}": {
                "allocations": [member for member in homes if homes[member] == host],
                "peer": world.hosts[host].peer,
                "redundancy": int(host in redundant),
            }
            for host in dict.fromkeys(homes.values())
        }
        path = directory / f"{title}.json"
        path.write_text(json.dumps({"v1": {"allocations": allocations, "nodes": nodes}}))
        done = world.orchestrator.nunet("deploy", "-f", path, "--wait")
        assert done.code == 0, done
        self.id = done.out.splitlines()[-1].strip()

    def key(self, member: str) -> str:
        return f"at-{self.homes[member]}.{member}"

    def host(self, member: str) -> Host:
        return self.world.hosts[self.homes[member]]

    def container(self, member: str) -> str:
        if member not in self._containers:
            self._containers[member] = self.host(member).container(self.id, self.key(member))
        assert self._containers[member], f"no container of {member}"
        return self._containers[member]

    def inside(self, member: str, script: str) -> str:
        return self.host(member).docker("exec", self.container(member), "sh", "-c", script)

    def pages(self, member: str, *names: str) -> dict[str, str]:
        """What the servers of these names tell one member; empty where one is not reached."""
        tries = "; ".join(f"echo '# {name}'; a=$({FIND.format(name=name)}); [ $a ] && {GET}" for name in names)
        told = re.split(r"^# (.*)\n", self.inside(member, tries), flags=re.MULTILINE)[1:]
        return dict(zip(told[::2], told[1::2], strict=True))

    def page(self, member: str, name: str) -> str:
        return self.pages(member, name)[name]

    def address(self, member: str) -> str:
        (found,) = re.findall(r"inet (10\.[0-9.]+)/24", self.inside(member, "ip addr show dev nunet0"))
        return str(found)

    def received(self, member: str) -> int:
        """How many packets its device has brought it."""
        found = re.search(r"nunet0: *[0-9]+ +([0-9]+) ", self.inside(member, "cat /proc/net/dev"))
        assert found
        return int(found[1])

    def report(self, host: str) -> NetworkReport:
        reply = self.world.orchestrator.ask(lambda client: Deployment(client, self.id).network())
        return reply.machines[self.world.hosts[host].peer]

    def between(self, host: str, other: str) -> MemberReport:
        """How one host sees another."""
        peer = self.world.hosts[other].peer
        return next(member for member in self.report(host).members if member.peer == peer)

    def shut_down(self) -> None:
        done = self.world.orchestrator.nunet("shutdown", self.id)
        assert done.code == 0, done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as world:
        yield world


@pytest.fixture(scope="module")
def before(world: Lab) -> dict[str, dict[str, list[str]]]:
    """What there was before the first deployment."""
    return {name: traces(host) for name, host in world.hosts.items()}


def traces(host: Host) -> dict[str, list[str]]:
    """Wherever it has moved to."""
    found = host.traces().items()
    return {what: [line.replace(ELSEWHERE, host.namespace.address) for line in lines] for what, lines in found}


@pytest.fixture(scope="module")
def web(world: Lab, before: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return Ensemble(world, tmp_path_factory.mktemp("web"), "web", HOMES)


@pytest.mark.parametrize("source", HOMES)
def test_every_member_gets_the_page_of_every_other_by_name(web: Ensemble, source: str) -> None:
    others = [member for member in HOMES if member != source]
    pages = web.pages(source, *others)
    assert [name for name in others if not pages[name].startswith("HTTP/1.1 200 OK")] == [], web.world.words()
    assert all(page.endswith(f" web {name}\n") for name, page in pages.items())


def test_who_forges_an_address_is_counted_and_heard_by_nobody(web: Ensemble) -> None:
    one, three = web.address("one"), web.address("three")
    before = web.report("public").drops.get("forged source", 0)
    heard = web.between("left", "public").packets_in
    run_inside(web.host("one").namespace_of(web.container("one")), lambda: forge(web.address("five"), three))
    look_until(lambda: web.report("public").drops.get("forged source", 0) == before + 1)
    assert web.between("left", "public").packets_in == heard
    told = web.world.orchestrator.nunet("subnet", "status", web.id)
    assert f"{before + 1} packets dropped: forged source" in told.out, one


def forge(source: str, destination: str) -> None:
    packet = udp_packet(IPv4Address(source).packed, 7, IPv4Address(destination).packed, PORT, b"forged")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(packet, (destination, 0))


def test_a_node_outside_of_the_ensemble_gets_nothing(world: Lab, web: Ensemble) -> None:
    """It knows the ensemble, the addresses and the machines, and stands where the routers let it through."""
    packet = udp_packet(
        IPv4Address(web.address("five")).packed, 7, IPv4Address(web.address("one")).packed, PORT, b"hello"
    )
    hello = frames.encode_hello(frames.Hello(web.id, 1420))
    attempts = {
        frames.OWN: hello + frames.encode_parcels([Parcel(packet)]),
        frames.ORIGINAL: frames.encode_opening(web.id) + frames.encode_packets([packet]),
    }
    before = web.received("one")

    async def attack(host: Host) -> list[bytes]:
        network = Libp2pNetwork(seed=bytes(31) + b"o", listen=["/ip4/0.0.0.0/tcp/9100"], explore=False)
        heard = []
        async with network.run():
            with trio.fail_after(WAIT_S):
                await network.connect(f"/ip4/{host.namespace.address}/tcp/{P2P_PORT}/p2p/{host.peer}")
                for protocol, data in attempts.items():
                    stream = await network.streams.open(host.peer, protocol)
                    with suppress(NetworkError):
                        await stream.write(data)
                        heard.append(await stream.read(1000))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(packet, (host.namespace.address, P2P_PORT))
        return heard

    told = run_inside(world.outsider.path, lambda: trio.run(attack, world.hosts["public"]))
    assert b"".join(told) == b""
    assert web.received("one") == before
    assert web.page("five", "one").endswith(" web one\n")
    assert web.received("one") > before, "it is what counts"


@pytest.fixture(scope="module")
def shop(world: Lab, web: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """A second ensemble on the same machines; its members have names that the first has, too."""
    homes = {"one": "public", "three": "left"}
    return Ensemble(world, tmp_path_factory.mktemp("shop"), "shop", homes, redundant=("left",))


def test_a_second_ensemble_on_the_same_machines_is_apart(web: Ensemble, shop: Ensemble) -> None:
    assert shop.page("one", "three").endswith(" shop three\n")
    assert shop.page("three", "one").endswith(" shop one\n")
    assert web.page("one", "three").endswith(" web three\n")
    assert shop.pages("one", "two", "four") == {"two": "", "four": ""}
    for ours, other in ((web, shop), (shop, web)):
        knocks = [f"(a={other.address(target)}; {GET.replace('-w 5', '-w 1')}) &" for target in ("one", "three")]
        told = ours.inside("one", f"{' '.join(knocks)} wait")
        assert "200 OK" not in told, "neither on the same machine nor on another"


def test_two_behind_routers_are_relayed_until_the_direct_path_opens(world: Lab, web: Ensemble) -> None:
    look_until(lambda: web.page("three", "four").endswith(" web four\n"))
    assert web.between("left", "right").path in ("relayed", ""), "none while a connection takes the place of another"
    relayed = re.compile(rf"^\S+ +four +\S+ +relayed by …{world.orchestrator.peer[-8:]} ", re.MULTILINE)

    def is_told() -> object:
        web.page("three", "four")
        return relayed.search(world.orchestrator.nunet("subnet", "status", web.id).out)

    look_until(is_told, lambda: web.between("left", "right"))
    for member, host in (("three", "left"), ("four", "right")):

        def is_direct(member: str = member, host: str = host) -> bool:
            return web.page(member, "one") != "" and web.between(host, "public").path == "datagram"

        look_until(is_direct, world.words)

    def is_carried_by(path: str, *, relayed: bool) -> bool:
        told = world.hosts["left"].ask(lambda client: client.call("/dms/node/peers/list", None, PeersList))
        found = [one.relayed for one in told.connections if one.id == world.hosts["right"].peer]
        return relayed in found and web.page("three", "four") != "" and web.between("left", "right").path == path

    router = world.routers["left"]
    router.unblock()
    router.block(world.routers["right"].address, but_udp=True)
    look_until(lambda: is_carried_by("datagram", relayed=True), lambda: web.between("left", "right"))
    router.unblock()
    look_until(lambda: is_carried_by("datagram", relayed=False), lambda: web.between("left", "right"))
    assert web.page("four", "three").endswith(" web three\n")


def test_when_no_udp_passes_any_more_a_connection_goes_on_by_stream_and_comes_back(world: Lab, web: Ensemble) -> None:
    web.inside("one", f"mkdir /tmp/www/cgi-bin && cd /tmp/www/cgi-bin && printf '{TICKING}' >ticks && chmod +x ticks")
    url = f"http://{web.address('one')}:{PORT}/cgi-bin/ticks"
    web.host("three").docker("exec", "-d", web.container("three"), "sh", "-c", f"busybox wget -O /tmp/ticks {url}")

    def is_ticking_over(path: str) -> None:
        """On the one connection that was opened: who fetches does not do so twice."""
        look_until(lambda: web.between("left", "public").path == path, lambda: web.between("left", "public"))
        ticks = len(web.inside("three", "cat /tmp/ticks").split())
        look_until(
            lambda: len(web.inside("three", "cat /tmp/ticks").split()) > ticks, lambda: web.between("left", "public")
        )
        assert web.between("left", "public").path == path

    is_ticking_over("datagram")
    with world.routers["left"].without_udp():
        is_ticking_over("direct")
    is_ticking_over("datagram")


def test_when_a_machine_moves_to_another_address_its_traffic_goes_on(world: Lab, web: Ensemble) -> None:
    world.hosts["public"].namespace.move(ELSEWHERE)
    for source, target in itertools.permutations(("one", "three", "five"), 2):

        def is_reached(source: str = source, target: str = target) -> bool:
            return web.page(source, target).endswith(f" web {target}\n")

        look_until(is_reached, world.words)


def test_the_name_of_a_member_whose_node_is_killed_is_that_of_its_standby(world: Lab, shop: Ensemble) -> None:
    host = world.hosts["left"]
    page, address = shop.page("one", "three"), shop.address("three")
    assert page.endswith(" shop three\n")
    host.kill()

    def has_another() -> bool:
        now = shop.page("one", "three")
        return now.endswith(" shop three\n") and now != page

    look_until(has_another, world.words)
    standbys = [one.container(shop.id, "at-left-standby-1.three") for one in world.hosts.values()]
    assert len([one for one in standbys if one]) == 1
    assert address in shop.inside("one", "nslookup three")
    host.start()
    host.await_started()
    look_until(lambda: not host.container(shop.id, "at-left.three"), world.words)


def test_at_the_end_nothing_is_left(
    world: Lab, web: Ensemble, shop: Ensemble, before: dict[str, dict[str, list[str]]]
) -> None:
    for ensemble in (web, shop):
        ensemble.shut_down()
    for name, host in world.hosts.items():
        changed = partial(changes, before[name], host)
        look_until(partial(_is_none, changed), changed)


def _is_none(found: Callable[[], list[str]]) -> bool:
    return not found()


def changes(before: dict[str, list[str]], host: Host) -> list[str]:
    """What is there now and was not, and what was there and is no more."""
    now = traces(host)
    return [
        f"{sign} {what}: {line}"
        for sign, some, others in (("+", now, before), ("-", before, now))
        for what in some
        for line in Counter(some[what]) - Counter(others[what])
    ]
