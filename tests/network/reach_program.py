"""A node in a process of its own, for tests of reachability: one JSON event a line on standard output; ends with its input.

The argument is JSON: ``{"number", "listen", "bootstrap", "service", "client", …}``. Commands on standard input, answered in
order: ``connect <address>``, ``send <peer> <text>``, ``peers``, ``report``, ``probe``, ``stop``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import trio

from dms.network.libp2p import Libp2pNetwork
from dms.network.libp2p.reach.options import ReachOptions, When
from dms.network.reachability import ReachabilityReport
from dms.types.errors import DMSError
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"


async def main(argument: str) -> None:
    wanted = json.loads(argument)
    network = Libp2pNetwork(
        seed=wanted["number"].to_bytes(32, "big"),
        listen=[wanted.get("listen", "/ip4/0.0.0.0/tcp/9000")],
        bootstrap=wanted.get("bootstrap", ()),
        explore=False,
        reach=ReachOptions(
            relay_service=When(wanted.get("service", "off")),
            relay_client=When(wanted.get("client", "off")),
            port_mapping=wanted.get("mapping", False),
            hole_punching=wanted.get("punching", True),
            first_ask_s=0.5,
            boot_delay_s=0.5,
        ),
    )

    async def message(sender: PeerID, data: bytes) -> None:
        say(event="message", sender=sender, text=data.decode())

    network.handle(ROOT, message)
    network.listen(lambda change: say(event=change.change.value, sender=change.peer))
    async with network.run():
        say(event="ready", peer=network.peer_id)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command, _, rest = line.strip().partition(" ")
            if command == "stop":
                break
            try:
                say(event=command, **await answer(network, command, rest))
            except DMSError as error:
                say(event=command, error=error.message)
    say(event="stopped")


async def answer(network: Libp2pNetwork, command: str, rest: str) -> dict[str, Any]:
    if command == "connect":
        return {"peer": await network.connect(rest, timeout_s=20)}
    if command == "send":
        peer, _, text = rest.partition(" ")
        await network.send(PeerID(peer), ROOT, text.encode())
        return {}
    if command == "peers":
        return {"relayed": {info.peer: info.is_relayed for info in network.peers()}, "counters": network.counters()}
    if command == "probe":
        return told(await network.reachability.probe())
    return told(network.reachability.report())


def told(report: ReachabilityReport) -> dict[str, Any]:
    return {
        "status": report.status.value,
        "announced": report.announced,
        "observed": [one.ip for one in report.observed],
        "checks": {check.address: len(check.reached_by) for check in report.checks},
        "relays": [one.relay for one in report.relays],
        "mapping": report.mapping and {"external": report.mapping.external, "problem": report.mapping.problem},
    }


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
