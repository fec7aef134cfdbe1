"""A node in a process of its own, for tests: one JSON event a line on standard output; ends with standard input.

Arguments: seed number, listen address, then bootstrap addresses; ``--mdns`` meets on the local network,
``--network=ID`` is of a network of one's own. Says ``{"event": "ready", "addresses": […], "peer": …}``, then every message
and broadcast that it gets, and what it could not send. Commands on standard input: ``send <peer> <text>``,
``publish <text>``, ``clock <seconds>`` (sets the wall clock ahead, or back, for this process), ``status`` (peers, their
protocols, counters).
"""

from __future__ import annotations

import json
import sys
import time

import trio

from dms.network.libp2p import Libp2pNetwork
from dms.types.errors import DMSError
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
TOPIC = "/nunet/hello"


async def main(arguments: list[str]) -> None:
    number, listen, *rest = arguments
    network = Libp2pNetwork(
        seed=int(number).to_bytes(32, "big"),
        listen=[listen],
        bootstrap=[one for one in rest if not one.startswith("--")],
        mdns="--mdns" in rest,
        network_id=next((one.partition("=")[2] for one in rest if one.startswith("--network=")), ""),
    )

    async def message(sender: PeerID, data: bytes) -> None:
        say(event="message", sender=sender, text=data.decode())

    async def broadcast(sender: PeerID, data: bytes) -> None:
        say(event="broadcast", sender=sender, text=data.decode())

    network.handle(ROOT, message)
    await network.subscribe(TOPIC, broadcast)
    network.listen(lambda change: say(event=change.change.value, sender=change.peer))
    async with network.run():
        say(event="ready", peer=network.peer_id, addresses=network.listen_addresses)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command, _, rest = line.strip().partition(" ")
            if command == "publish":
                await network.publish(TOPIC, rest.encode())
            elif command == "clock":
                set_clock(float(rest))
            elif command == "status":
                say(
                    event="status",
                    peers={info.peer: info.protocols for info in network.peers()},
                    counters=network.counters(),
                    addresses=network.listen_addresses,
                )
            else:
                peer, _, text = rest.partition(" ")
                try:
                    await network.send(PeerID(peer), ROOT, text.encode())
                except DMSError as error:  # it may have arrived all the same: only its acknowledgement did not
                    say(event="not sent", to=peer, reason=error.message)


def set_clock(by_s: float) -> None:
    """What a person with ``date --set`` does, for this process alone; nobody is told, as nobody is then."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + by_s
    time.time_ns = lambda: real_ns() + int(by_s * 1e9)


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
