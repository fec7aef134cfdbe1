"""Peers that are killed, freeze, or whose clock is set: real processes."""

from __future__ import annotations

import signal
import socket

import pytest
from tests.network.processes import Child, child
from tests.network.waiting import until

from dms.network import PeerUnreachable
from dms.network.libp2p import Libp2pNetwork, Limits
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"
LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
DAY_S = 86_400


def node(number: int, *bootstrap: str, limits: Limits | None = None) -> Libp2pNetwork:
    seed = (number + (1 << 104)).to_bytes(32, "big")
    return Libp2pNetwork(seed=seed, listen=LOOPBACK, bootstrap=bootstrap, limits=limits, explore=False)


async def talks(here: Libp2pNetwork, there: Child, text: str) -> None:
    await here.send(PeerID(there.peer), ROOT, text.encode())
    await there.expect(event="message", text=text)


async def test_a_peer_that_is_killed_is_gone_at_once_and_found_when_it_is_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        listen = f"/ip4/127.0.0.1/tcp/{placeholder.getsockname()[1]}"
    async with child(1, listen) as first:
        peer = PeerID(first.peer)
        survivor = node(2, first.addresses[0])
        third = node(3)
        async with survivor.run(), third.run():
            await third.connect(survivor.listen_addresses[0])
            await until(lambda: survivor.is_connected(peer))
            await talks(survivor, first, "before")

            first.signal(signal.SIGKILL)

            # The kernel of the killed says so: no keep-alive has to run out.
            await until(lambda: not survivor.is_connected(peer), timeout_s=5.0)
            with pytest.raises(PeerUnreachable):
                await survivor.send(peer, ROOT, b"lost", timeout_s=5.0)
            await third.ping(survivor.peer_id)
            async with child(1, listen) as again:
                assert again.peer == peer
                await until(lambda: survivor.is_connected(peer))
                await talks(survivor, again, "after")


async def test_a_frozen_process_is_dropped_and_welcome_when_it_thaws() -> None:
    limits = Limits(keepalive_s=0.5)
    hub = node(4, limits=limits)
    living = node(6)
    async with hub.run(), living.run(), child(5, LOOPBACK[0], *hub.listen_addresses) as frozen:
        await living.connect(hub.listen_addresses[0])
        await until(lambda: hub.is_connected(PeerID(frozen.peer)) and hub.is_connected(living.peer_id))
        frozen.signal(signal.SIGSTOP)
        try:
            await until(lambda: not hub.is_connected(PeerID(frozen.peer)))
            assert hub.counters()["peers frozen"] == 1
            await living.ping(hub.peer_id)
            assert hub.is_connected(living.peer_id)
        finally:
            frozen.signal(signal.SIGCONT)
        await until(lambda: hub.is_connected(PeerID(frozen.peer)))
        await talks(hub, frozen, "thawed")


async def test_a_wall_clock_that_is_set_changes_nothing() -> None:
    got = list[bytes]()

    async def keep(_sender: PeerID, data: bytes) -> None:
        got.append(data)

    hub, late = node(7), node(8)
    hub.handle(ROOT, keep)
    await hub.subscribe(TOPIC, keep)
    async with hub.run(), child(9, LOOPBACK[0], *hub.listen_addresses) as other:
        peer = PeerID(other.peer)
        await other.expect(event="identified", sender=hub.peer_id)
        await talks(hub, other, "before")

        for jump_s in (DAY_S, -2 * DAY_S, 3650 * DAY_S):
            await other.tell("clock", jump_s)

            status = await other.status()
            assert ROOT in status["peers"][hub.peer_id]
            await talks(hub, other, f"hub to peer {jump_s}")
            await other.tell("send", hub.peer_id, f"peer to hub {jump_s}")
            await other.tell("publish", f"broadcast of the peer {jump_s}")
            wanted = {f"{what} {jump_s}".encode() for what in ("peer to hub", "broadcast of the peer")}
            await until(lambda wanted=wanted: wanted <= set(got))  # type: ignore[misc]
            await hub.publish(TOPIC, f"broadcast of the hub {jump_s}".encode())
            await other.expect(event="broadcast", text=f"broadcast of the hub {jump_s}")
        async with late.run():
            await late.connect(other.addresses[0])
            await other.expect(event="identified", sender=late.peer_id)
            await talks(late, other, "a newcomer")
        assert hub.is_connected(peer)
        assert "peers frozen" not in hub.counters()
        assert not failures(await other.status())


def failures(status: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: count for name, count in status["counters"].items() if "failed" in name}
