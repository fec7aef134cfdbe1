"""Several machines on one: network namespaces joined by a bridge, for tests with real processes and real sockets.

Needs root and ``iproute2``. The bridge lives in a namespace of its own, so the host's network is not touched, and
everything is gone when the context ends, whatever happened inside.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_PREFIX_LENGTH = 16
_END_S = 5.0
_ROUTER = """
table ip router {{
  chain outgoing {{
    type nat hook postrouting priority 100
    oifname "eth0" {masquerade}
  }}
  chain incoming {{
    type filter hook input priority 0
    iifname "eth0" ct state new drop
  }}
  chain passing {{
    type filter hook forward priority 0
    ct status dnat accept
    iifname "eth0" ct state new drop
  }}
}}
"""
_BLOCKED = """
table ip blocked {{
  chain passing {{
    type filter hook forward priority -10
    ip daddr {address} {what} drop
    ip saddr {address} {what} drop
  }}
}}
"""
_NO_UDP = """
table ip no_udp {
  chain passing {
    type filter hook forward priority -10
    meta l4proto udp drop
  }
}
"""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One "machine": the name of its namespace and its address on the common network."""

    name: str
    address: str
    hub: str
    """The namespace of the bridge,"""
    port: str
    """and this machine's port there."""

    def vanish(self) -> None:
        """Let no packet in or out any more, as a machine without power: nobody else notices but by silence."""
        _ip("-n", self.hub, "link", "set", self.port, "down")

    def reappear(self) -> None:
        """Let packets pass again."""
        _ip("-n", self.hub, "link", "set", self.port, "up")

    def move(self, address: str) -> None:
        """Take another address in place of the one there was, as after roaming into another network."""
        _ip("-4", "-n", self.name, "addr", "flush", "dev", "eth0")
        self.also(address)

    def also(self, address: str) -> None:
        """Take one more address."""
        _ip("-n", self.name, "addr", "add", f"{address}/{_PREFIX_LENGTH}", "dev", "eth0")

    def block(self, address: str, *, but_udp: bool = False) -> None:
        """As a router: let nothing, or only UDP, pass between those behind and this address, until :meth:`unblock`."""
        self._filter(_BLOCKED.format(address=address, what="meta l4proto != udp" if but_udp else ""))

    def unblock(self) -> None:
        """Let everything pass again."""
        self._filter("delete table ip blocked\n")

    @contextmanager
    def without_udp(self) -> Iterator[None]:
        """As a router: let no UDP pass for a while, of those behind and for them, old or new."""
        self._filter(_NO_UDP)
        try:
            yield
        finally:
            self._filter("delete table ip no_udp\n")

    def _filter(self, rules: str) -> None:
        subprocess.run(self.command(["nft", "-f", "-"]), check=True, capture_output=True, input=rules, text=True)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs a program inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    @property
    def path(self) -> Path:
        """By which it is entered."""
        return Path("/run/netns") / self.name

    @contextmanager
    def process(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """Run a program inside, with pipes to its standard input and output; it is ended with the context."""
        process = subprocess.Popen(
            self.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, bufsize=1
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(_END_S)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def namespaces(count: int, *, network: str = "10.77") -> Iterator[tuple[Namespace, ...]]:
    """That many namespaces on one bridge, at 10.77.0.1 and following, or in another /16.

    :raises subprocess.CalledProcessError: no root, or no namespaces here.
    """
    prefix = f"dms{secrets.token_hex(3)}"
    hub = f"{prefix}-hub"
    with ExitStack() as stack:
        _add(stack, hub)
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "link", "set", "br0", "up")
        made = []
        for number in range(1, count + 1):
            one = Namespace(f"{prefix}-{number}", f"{network}.{number >> 8}.{number & 255}", hub, f"port{number}")
            _add(stack, one.name)
            _ip("link", "add", "eth0", "netns", one.name, "type", "veth", "peer", "name", f"port{number}", "netns", hub)
            _ip("-n", hub, "link", "set", f"port{number}", "master", "br0", "up")
            _ip("-n", one.name, "addr", "add", f"{one.address}/{_PREFIX_LENGTH}", "dev", "eth0")
            _ip("-n", one.name, "link", "set", "lo", "up")
            _ip("-n", one.name, "link", "set", "eth0", "up")
            made.append(one)
        yield tuple(made)


@contextmanager
def behind_router(router: Namespace, *, is_symmetric: bool = False) -> Iterator[Namespace]:
    """A namespace that reaches the others through ``router`` only, which hides its address and lets nobody in.

    :param is_symmetric: whether the router takes another port outside for every connection.
    """
    with ExitStack() as stack:
        inside = Namespace(f"{router.name}-in", "192.168.1.2", router.name, "lan0")
        _add(stack, inside.name)
        _ip("link", "add", "eth0", "netns", inside.name, "type", "veth", "peer", "name", "lan0", "netns", router.name)
        _ip("-n", router.name, "addr", "add", "192.168.1.1/24", "dev", "lan0")
        _ip("-n", router.name, "link", "set", "lan0", "up")
        _ip("-n", inside.name, "addr", "add", f"{inside.address}/24", "dev", "eth0")
        _ip("-n", inside.name, "link", "set", "lo", "up")
        _ip("-n", inside.name, "link", "set", "eth0", "up")
        _ip("-n", inside.name, "route", "add", "default", "via", "192.168.1.1")
        forward = ["sysctl", "-qw", "net.ipv4.ip_forward=1"]
        subprocess.run(router.command(forward), check=True, capture_output=True)
        rules = _ROUTER.format(masquerade="masquerade fully-random" if is_symmetric else "masquerade")
        subprocess.run(router.command(["nft", "-f", "-"]), check=True, capture_output=True, input=rules, text=True)
        yield inside


def _add(stack: ExitStack, name: str) -> None:
    _ip("netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
