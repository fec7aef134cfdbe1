"""Nodes behind routers: each in a network namespace of its own, with real packets and the kernel's own address translation."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dms.testing.looking import look_until
from dms.testing.netns import Namespace, behind_router, namespaces

pytestmark = pytest.mark.netns

WAIT_S = 90.0
PROGRAM = str(Path(__file__).with_name("reach_program.py"))
ROUTER = str(Path(__file__).with_name("router_program.py"))
INTERNET = "45.77"
"""Addresses that count as public; they are those of the namespaces only."""


class Node:
    """A node in a namespace, spoken to line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.peer = str(self.expect("ready")["peer"])

    def expect(self, event: str, **wanted: object) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(WAIT_S, self._process.kill)
        watchdog.start()
        try:
            seen: list[str] = []
            for line in self._process.stdout:
                told: dict[str, Any] = json.loads(line)
                seen.append(line)
                if told["event"] == event and all(told.get(key) == value for key, value in wanted.items()):
                    return told
        finally:
            watchdog.cancel()
        raise AssertionError(f"the program ended, or was silent for {WAIT_S} s, before {event} {wanted}: {seen}")

    def ask(self, command: str, *words: str) -> dict[str, Any]:
        self._tell(command, *words)
        return self.expect(command)

    def stop(self) -> None:
        self._tell("stop")
        self.expect("stopped")

    def _tell(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def until(self, command: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        told: dict[str, Any] = {}

        def holds_now() -> object:
            told.clear()
            told.update(self.ask(command))
            return holds(told)

        look_until(holds_now, lambda: f"{command} still says {told}", timeout_s=WAIT_S)
        return told


@contextmanager
def node(place: Namespace, number: int, **options: object) -> Iterator[Node]:
    with place.process([sys.executable, PROGRAM, json.dumps({"number": number, **options})]) as process:
        yield Node(process)


def at(place: Namespace, one: Node) -> str:
    return f"/ip4/{place.address}/tcp/9000/p2p/{one.peer}"


def relayed(report: dict[str, Any]) -> list[str]:
    return [address for address in report["announced"] if "/p2p-circuit/" in address]


@pytest.mark.parametrize("is_symmetric", [False, True], ids=["two that keep ports", "one that changes ports"])
def test_two_nodes_behind_routers_meet_through_a_relay_and_then_directly_where_the_routers_let_them(
    is_symmetric: bool,
) -> None:
    with (
        namespaces(3, network=INTERNET) as (public, first, second),
        behind_router(first) as one,
        behind_router(second, is_symmetric=is_symmetric) as other,
        node(public, 1, service="on") as relay,
        node(one, 2, bootstrap=[at(public, relay)], client="auto") as a,
        node(other, 3, bootstrap=[at(public, relay)], client="auto") as b,
    ):
        report = a.until("report", relayed)
        assert report["observed"] == [first.address]
        b.until("report", relayed)
        b.ask("connect", relayed(report)[0])
        b.ask("send", a.peer, "hello")
        a.expect("message", sender=b.peer, text="hello")
        if is_symmetric:
            a.until("peers", lambda told: told["counters"].get("hole punches tried", 0) == 3)
            assert a.ask("peers")["relayed"][b.peer]
        else:
            a.until("peers", lambda told: told["relayed"].get(b.peer) is False)
            b.until("peers", lambda told: told["relayed"].get(a.peer) is False)
            a.until("peers", lambda told: told["counters"].get("holes punched", 0) == 1)
        a.ask("send", b.peer, "hello back")
        b.expect("message", sender=a.peer, text="hello back")
        a.until("report", lambda told: told["status"] == "private")
        if not is_symmetric:
            a.until("peers", lambda told: told["counters"].get("relayed connections replaced"))
            b.ask("send", a.peer, "still there")
            a.expect("message", sender=b.peer, text="still there")
            a.ask("send", b.peer, "and back")
            b.expect("message", sender=a.peer, text="and back")


def test_a_public_node_that_came_through_a_relay_is_dialled_directly() -> None:
    with (
        namespaces(3, network=INTERNET) as (public, router, elsewhere),
        behind_router(router) as inside,
        node(public, 1, service="on") as relay,
        node(inside, 2, bootstrap=[at(public, relay)], client="auto") as hidden,
        node(elsewhere, 3) as other,
    ):
        address = relayed(hidden.until("report", relayed))[0]
        other.ask("connect", address)
        other.until("peers", lambda told: told["relayed"].get(hidden.peer) is False)
        assert hidden.ask("peers")["counters"].get("hole punches tried", 0) == 0


def test_a_node_with_an_open_port_learns_that_it_is_public() -> None:
    with (
        namespaces(3, network=INTERNET) as places,
        node(places[0], 1, service="auto") as a,
        node(places[1], 2, bootstrap=[at(places[0], a)]) as b,
        node(places[2], 3, bootstrap=[at(places[0], a)]) as c,
    ):
        for one in (b, c):
            one.until("peers", lambda told: a.peer in told["relayed"])
        report = a.until("probe", lambda told: told["status"] == "public")
        assert report["checks"][f"/ip4/{places[0].address}/tcp/9000"] >= 1


def test_a_router_that_forwards_ports_makes_a_node_public_until_it_stops() -> None:
    with (
        namespaces(3, network=INTERNET) as (public, router, elsewhere),
        behind_router(router) as inside,
        router.process([sys.executable, ROUTER, router.address]) as forwarding,
        node(public, 1) as first,
    ):
        assert forwarding.stdout is not None
        assert forwarding.stdout.readline() == "ready\n"
        with node(inside, 2, bootstrap=[at(public, first)], client="auto", mapping=True) as mapped:
            assert forwarding.stdout.readline() == "forwarded 9000\n"
            outside = f"/ip4/{router.address}/tcp/9000"
            report = mapped.until("probe", lambda told: told["status"] == "public")
            assert report["checks"][outside] == 1
            assert f"{outside}/p2p/{mapped.peer}" in report["announced"]
            assert report["mapping"] == {"external": f"{router.address}:9000", "problem": ""}
            with node(elsewhere, 3) as other:
                other.ask("connect", f"{outside}/p2p/{mapped.peer}")
                assert other.ask("peers")["relayed"] == {mapped.peer: False}
            mapped.stop()
            assert forwarding.stdout.readline() == "forgotten\n"
