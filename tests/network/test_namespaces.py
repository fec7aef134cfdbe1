"""Nodes on different machines: two network namespaces, joined by a bridge."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dms.testing.netns import Namespace, namespaces

pytestmark = pytest.mark.netns

WAIT_S = 30.0
PROGRAM = str(Path(__file__).with_name("node_program.py"))


def expect(process: subprocess.Popen[str], **wanted: str) -> dict[str, Any]:
    """Read events until one has these values; the end of the program is an error."""
    assert process.stdout is not None
    watchdog = threading.Timer(WAIT_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            event: dict[str, Any] = json.loads(line)
            if all(event.get(key) == value for key, value in wanted.items()):
                return event
    finally:
        watchdog.cancel()
    raise AssertionError(f"the program ended, or was silent for {WAIT_S} s, before {wanted}")


def tell(process: subprocess.Popen[str], *words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(" ".join(words) + "\n")
    process.stdin.flush()


def test_nodes_in_two_namespaces_meet_through_a_bootstrap_address_and_talk() -> None:
    listen = "/ip4/0.0.0.0/tcp/9000"
    with namespaces(2) as (one, two), one.process([sys.executable, PROGRAM, "1", listen]) as a:
        first = expect(a, event="ready")
        address = f"/ip4/{one.address}/tcp/9000/p2p/{first['peer']}"
        assert address in first["addresses"]

        with two.process([sys.executable, PROGRAM, "2", listen, address]) as b:
            second = expect(b, event="ready")
            expect(b, event="identified", sender=first["peer"])
            expect(a, event="identified", sender=second["peer"])

            tell(b, "send", first["peer"], "hello")
            expect(a, event="message", sender=second["peer"], text="hello")
            tell(a, "publish", "to all")
            expect(b, event="broadcast", sender=first["peer"], text="to all")
            tell(a, "send", second["peer"], "hello back")
            expect(b, event="message", sender=first["peer"], text="hello back")


def test_nodes_of_one_network_meet_on_a_common_cable_and_others_do_not() -> None:
    def start(place: Namespace, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
        return place.process([sys.executable, PROGRAM, *arguments, "--mdns"])

    listen = "/ip4/0.0.0.0/tcp/9000"
    with namespaces(3) as (one, two, three), start(three, "3", listen, "--network=acme") as c:
        foreign = expect(c, event="ready")
        with start(one, "1", listen) as a, start(two, "2", listen) as b:
            first, second = expect(a, event="ready"), expect(b, event="ready")
            expect(a, event="identified", sender=second["peer"])
            expect(b, event="identified", sender=first["peer"])
            tell(b, "send", first["peer"], "hello, neighbour")
            heard: list[dict[str, str]] = []
            while not heard or heard[-1].get("text") != "hello, neighbour":
                heard.append(expect(a))
            assert foreign["peer"] not in {event.get("sender") for event in heard}
            with start(two, "4", "/ip4/0.0.0.0/tcp/9001", "--network=acme") as d:
                fourth = expect(d, event="ready")
                assert expect(c, event="identified")["sender"] == fourth["peer"], "nobody else came before"


def test_without_multicast_a_node_runs_all_the_same() -> None:
    with namespaces(1) as (one,):
        blocked = ["ip", "-n", one.name, "link", "set", "eth0", "multicast", "off"]
        subprocess.run(blocked, check=True, capture_output=True)
        with one.process([sys.executable, PROGRAM, "1", "/ip4/0.0.0.0/tcp/9000", "--mdns"]) as a:
            ready = expect(a, event="ready")
            tell(a, "send", ready["peer"], "to myself")
            expect(a, event="message", text="to myself")


def test_namespaces_are_gone_afterwards_even_after_a_failure() -> None:
    before = _names()

    def fail() -> None:
        with namespaces(1) as (one,):
            raise KeyError(one.name in _names())

    with pytest.raises(KeyError, match="True"):
        fail()
    assert _names() == before


def _names() -> list[str]:
    listing = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    return [line.split()[0] for line in listing.stdout.splitlines() if line]
