"""What the firewall of this machine is told about one network: pure text for ``iptables-restore``, and running it.

Each network has chains of its own, ``NUNET-<owner>-<network>-…``, so that whatever happened, cleaning up is removing the
jumps to them and then the chains. The owner is the node: several nodes on one machine leave each other's alone.

What comes from the network's device into this machine is dropped, but for answers: members reach neither the services
of the host nor anything behind it. Public ports lead in by DNAT, from outside and from the machine itself, and what
goes in so has the gateway as its source, so that the answer finds its way back. TCP of this machine to members that only
streams reach is led to a socket of ours before it gets to the device.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from dms.observe.log import get_logger
from dms.subnet.errors import FirewallRefused
from dms.subnet.namespaces import run_inside
from dms.subnet.ports import ANY, PortMapping

BothAddresses = tuple[IPv4Address, IPv6Address]
LOCK_S = 10
FAMILIES = ("iptables", "ip6tables")

log = get_logger(__name__)

_PREFIX = "NUNET-"
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_TOOL_S = 30.0
_HOOKS = {
    "filter": {"IN": "INPUT", "FWD": "FORWARD"},
    "nat": {"DST": "PREROUTING", "OUT": "OUTPUT", "SRC": "POSTROUTING", "STR": "OUTPUT"},
}
_TABLES = {"iptables": ("filter", "nat"), "ip6tables": ("filter",)}
_ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED"
_MAPPED = "-m conntrack --ctstate DNAT"
_JUMP = re.compile(r"-A (\S+)( .*)? -[jg] (\S+)$")


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one network: its device on this machine, the source of what goes in by ports, and the ports."""

    owner: str
    subnet_id: str
    device: str
    source: IPv4Address
    mappings: tuple[PortMapping, ...] = ()
    by_stream: tuple[IPv4Address, ...] = ()
    """Members that programs of this machine reach through our socket."""
    streams_port: int = 0
    """Of this socket, on the loopback."""

    @property
    def chains(self) -> str:
        """How the names of its chains begin."""
        return chains_of(self.owner, self.subnet_id)


def chains_of(owner: str, subnet_id: str = "") -> str:
    """How the names of chains begin: of an owner, or of one network of his."""
    text = f"{_PREFIX}{_short(owner, 6)}-"
    return f"{text}{_short(subnet_id, 8)}-" if subnet_id else text


def restore_text(rules: Rules, tool: str, saved: str) -> str:
    """What makes the firewall as it should be, given what ``iptables-save`` says of now; run twice it changes nothing."""
    there = set(saved.splitlines())
    lines: list[str] = []
    for table in _TABLES[tool]:
        lines.append(f"*{table}")
        hooks = _HOOKS[table]
        lines += [f":{rules.chains}{end} - [0:0]" for end in hooks]
        for end, hook in hooks.items():
            jumps = [f"{match} -j {rules.chains}{end}" for match in _matches(end, rules.device)]
            lines += [f"-I {hook} 1{jump}" for jump in jumps if f"-A {hook}{jump}" not in there]
        lines += _content(rules, table, rules.mappings if tool == "iptables" else ())
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def removal_text(saved: str, prefix: str) -> str:
    """What removes all chains that begin so, and the jumps to them; empty when there are none."""
    tables: list[str] = []
    for block in saved.split("\n*"):
        lines = block.splitlines()
        if not lines:
            continue
        chains = [line[1:].split()[0] for line in lines if line.startswith(f":{prefix}")]
        if not chains:
            continue
        jumps = [
            f"-D {line.removeprefix('-A ')}"
            for line in lines
            if (found := _JUMP.match(line)) and found[3] in chains and found[1] not in chains
        ]
        name = next(line for line in lines if not line.startswith("#") and line.strip()).lstrip("*").strip()
        tables += [
            f"*{name}",
            *jumps,
            *(f"-F {chain}" for chain in chains),
            *(f"-X {chain}" for chain in chains),
            "COMMIT",
        ]
    return "\n".join(tables) + "\n" if tables else ""


def _content(rules: Rules, table: str, mappings: tuple[PortMapping, ...]) -> list[str]:
    start = f"-A {rules.chains}"
    ports = [(m, f"-p {m.protocol}", "" if m.source == ANY else f" -d {m.source}") for m in mappings]
    if table == "filter":
        return [
            f"{start}IN {_ANSWERS} -j ACCEPT",
            f"{start}IN -j DROP",
            f"{start}FWD -i {rules.device} {_ANSWERS} -j ACCEPT",
            *(
                f"{start}FWD -d {m.address} -o {rules.device} {proto} --dport {m.private} {_MAPPED} -j ACCEPT"
                for m, proto, _ in ports
            ),
            f"{start}FWD -i {rules.device} -j DROP",
            f"{start}FWD -o {rules.device} -j DROP",
        ]
    leads = [
        f"{proto}{to} --dport {m.public} -j DNAT --to-destination {m.address}:{m.private}" for m, proto, to in ports
    ]
    return [
        *(f"{start}DST {lead}" for lead in leads),
        *(f"{start}OUT {lead}" for lead in leads),
        *_to_socket(f"{rules.chains}STR", rules.by_stream, rules.streams_port),
        f"{start}SRC {_MAPPED} -j SNAT --to-source {rules.source}",
    ]


def _matches(end: str, device: str) -> tuple[str, ...]:
    """Which packets the jumps to a chain are for."""
    if end == "FWD":
        return (f" -i {device}", f" -o {device}")
    ends = {"IN": f" -i {device}", "SRC": f" -o {device}", "STR": f" -o {device} -p tcp"}
    return (ends.get(end, " -m addrtype --dst-type LOCAL"),)


def _to_socket(chain: str, addresses: Iterable[IPv4Address], port: int) -> list[str]:
    return [f"-A {chain} -d {one}/32 -p tcp -j REDIRECT --to-ports {port}" for one in sorted(addresses)]


def _short(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


class Firewall:
    """The firewall of one network namespace; every method blocks for tens of milliseconds."""

    def __init__(self, owner: str, *, namespace: Path | None = None) -> None:
        self._owner, self._namespace = owner, namespace

    def apply(self, rules: Rules) -> None:
        """Make it so, for both families.

        :raises FirewallRefused: it is not to be had, or the machine passes no packets on.
        """
        if rules.mappings and run_inside(self._namespace, _FORWARDING.read_text).strip() != "1":
            raise FirewallRefused("this machine does not pass packets on", hint="sysctl -w net.ipv4.ip_forward=1")
        for tool in FAMILIES:
            self._restore(tool, restore_text(rules, tool, self._saved(tool)))

    def remove(self, subnet_id: str = "") -> None:
        """Remove what is there of a network; without one, of all networks of this owner.

        :raises FirewallRefused: it is not to be had.
        """
        for tool in FAMILIES:
            text = removal_text(self._saved(tool), chains_of(self._owner, subnet_id))
            if text:
                self._restore(tool, text)

    def redirect(self, namespace: Path, device: str, ports: Iterable[tuple[str, int, int]], own: BothAddresses) -> None:
        """Inside the namespace of a member that has these addresses, or beside the guest who has them: its public ports lead to
        its private ones, for who comes through the device and for programs in the namespace.

        Goes with the namespace. Over IPv6 it is not so where the kernel cannot translate its addresses.

        :raises FirewallRefused: it is not to be had.
        """
        wanted = tuple(ports)
        self._redirect("iptables", namespace, device, wanted, f"{own[0]}/32", str(own[0]))
        try:
            self._redirect("ip6tables", namespace, device, wanted, f"{own[1]}/128", f"[{own[1]}]")
        except FirewallRefused as error:
            log.info("subnet_ports_ipv4_only", namespace=str(namespace), reason=error.message)

    def _redirect(
        self, tool: str, namespace: Path, device: str, ports: tuple[tuple[str, int, int], ...], own: str, to: str
    ) -> None:
        chain = f"{_PREFIX}PORTS"
        there = self._run([f"{tool}-save", "-t", "nat"], "", namespace).splitlines()
        jumps = (f"-A PREROUTING -i {device} -j {chain}", f"-A OUTPUT -d {own} -j {chain}")
        lines = ["*nat", f":{chain} - [0:0]", *(jump for jump in jumps if jump not in there)]
        lines += [
            f"-A {chain} -p {protocol} --dport {public} -j DNAT --to-destination {to}:{private}"
            for protocol, public, private in ports
            if public != private
        ]
        self._run([f"{tool}-restore", "-w", str(LOCK_S), "--noflush"], "\n".join([*lines, "COMMIT", ""]), namespace)

    def divert(self, namespace: Path, addresses: Iterable[IPv4Address], port: int, guest: str = "") -> None:
        """Inside the namespace of a member: what programs there send by TCP to these addresses goes to that port of its loopback;
        with ``guest``, what comes in through the device of this name, to that port of the device's address.

        Goes with the namespace.

        :raises FirewallRefused: it is not to be had.
        """
        chain = f"{_PREFIX}STREAMS"
        jump = f"-A PREROUTING -i {guest} -p tcp -j {chain}" if guest else f"-A OUTPUT -p tcp -j {chain}"
        lines = ["*nat", f":{chain} - [0:0]"]  # empties it
        if jump not in self._run(["iptables-save", "-t", "nat"], "", namespace).splitlines():
            lines.append(jump)
        lines += [*_to_socket(chain, addresses, port), "COMMIT", ""]
        self._run(["iptables-restore", "-w", str(LOCK_S), "--noflush"], "\n".join(lines), namespace)

    def _saved(self, tool: str) -> str:
        return self._run([f"{tool}-save"], "", self._namespace)

    def _restore(self, tool: str, text: str) -> None:
        self._run([f"{tool}-restore", "-w", str(LOCK_S), "--noflush"], text, self._namespace)

    def _run(self, command: list[str], text: str, namespace: Path | None) -> str:
        program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None:
            raise FirewallRefused(f"there is no {command[0]} on this machine")
        done = run_inside(
            namespace,
            lambda: subprocess.run(
                [program, *command[1:]], input=text, capture_output=True, text=True, check=False, timeout=_TOOL_S
            ),
        )
        if done.returncode:
            raise FirewallRefused(f"{command[0]} refused: {done.stderr.strip()[:300]}")
        return done.stdout
