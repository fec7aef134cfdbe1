"""Machines that vanish, and machines that move: network namespaces joined by a bridge."""

from __future__ import annotations

import sys

import pytest
from tests.network.test_namespaces import PROGRAM, expect, tell

from dms.testing.netns import namespaces

pytestmark = pytest.mark.netns

LISTEN = "/ip4/0.0.0.0/tcp/9000"


def test_a_machine_that_vanishes_is_noticed_and_found_when_it_is_back() -> None:
    with namespaces(3) as (one, two, three), one.process([sys.executable, PROGRAM, "11", LISTEN]) as hub:
        first = expect(hub, event="ready")
        address = f"/ip4/{one.address}/tcp/9000/p2p/{first['peer']}"
        arguments = [sys.executable, PROGRAM]
        with (
            two.process([*arguments, "12", LISTEN, address]) as lost,
            three.process([*arguments, "13", LISTEN, address]) as other,
        ):
            second, third = expect(lost, event="ready"), expect(other, event="ready")
            expect(hub, event="identified", sender=second["peer"])
            tell(hub, "send", second["peer"], "before")
            expect(lost, event="message", text="before")

            two.vanish()

            # Nothing says that it is gone: neither a FIN nor an RST arrives.
            expect(
                hub, event="disconnected", sender=second["peer"]
            )  # within 30 s; TCP alone takes a quarter of an hour
            expect(lost, event="disconnected", sender=first["peer"])
            tell(hub, "send", third["peer"], "others are not affected")
            expect(other, event="message", text="others are not affected")

            two.reappear()

            expect(hub, event="identified", sender=second["peer"])
            tell(hub, "send", second["peer"], "after")
            expect(lost, event="message", text="after")


def test_a_machine_that_moves_finds_its_bootstrap_peer_again_and_is_found_at_its_new_address() -> None:
    with namespaces(2) as (one, two), one.process([sys.executable, PROGRAM, "14", LISTEN]) as hub:
        first = expect(hub, event="ready")
        address = f"/ip4/{one.address}/tcp/9000/p2p/{first['peer']}"
        with two.process([sys.executable, PROGRAM, "15", LISTEN, address]) as roaming:
            second = expect(roaming, event="ready")
            expect(hub, event="identified", sender=second["peer"])
            expect(roaming, event="identified", sender=first["peer"])

            two.move("10.77.9.9")

            expect(
                roaming, event="connected", sender=first["peer"]
            )  # anew, before or after the old connection is given up
            tell(roaming, "status")
            status = expect(roaming, event="status")
            assert status["counters"]["addresses changed"] >= 1
            assert f"/ip4/10.77.9.9/tcp/9000/p2p/{second['peer']}" in status["addresses"]
            tell(roaming, "send", first["peer"], "from elsewhere")
            expect(hub, event="message", text="from elsewhere")


def test_peers_that_stay_connected_are_told_of_another_address() -> None:
    with namespaces(2) as (one, two), one.process([sys.executable, PROGRAM, "16", LISTEN]) as hub:
        first = expect(hub, event="ready")
        with two.process(
            [sys.executable, PROGRAM, "17", LISTEN, f"/ip4/{one.address}/tcp/9000/p2p/{first['peer']}"]
        ) as other:
            second = expect(other, event="ready")
            expect(hub, event="identified", sender=second["peer"])

            two.also("10.78.0.7")

            expect(hub, event="identified", sender=second["peer"])  # pushed
            tell(hub, "status")
            assert second["peer"] in expect(hub, event="status")["peers"]
