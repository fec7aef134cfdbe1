"""A provider's process is killed: its service is served again elsewhere, and what comes back with it is ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tests.e2e.ticking import ticker

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet
from dms.testing.looking import look_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]


@pytest.mark.long("tests/sim/test_supervision_nodes.py")
def test_a_service_whose_provider_is_killed_is_served_again_elsewhere(
    net: LocalNet, nunet: Nunet, tmp_path: Path
) -> None:
    file = ticker(tmp_path, failure_recovery="redeploy")
    done = nunet("deploy", "-f", file)
    identifier = done.out.strip()
    assert done.code == 0, done
    first = host(net, nunet, identifier)
    (other,) = {"node1", "node2"} - {first}
    try:
        net.end(first, signal.SIGKILL)
        await_host(net, nunet, identifier, other)
        assert len(net.programs(other)) == 1
        net.mend()
        await_no_programs(net, first)
        assert host(net, nunet, identifier) == other
    finally:
        net.mend()
        assert nunet("shutdown", identifier).out.strip() == "Completed"
    await_no_programs(net, other)


def described(nunet: Nunet, identifier: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(nunet("status", identifier, "--output", "json").out)["allocations"]["n.tick"]
    return found


def host(net: LocalNet, nunet: Nunet, identifier: str) -> str:
    peer = described(nunet, identifier)["peer"]
    return next(name for name in ("node1", "node2") if net.node(name).peer_id == peer)


def await_host(net: LocalNet, nunet: Nunet, identifier: str, name: str) -> None:
    def is_there() -> bool:
        now = described(nunet, identifier)
        return now["status"] == "running" and now["peer"] == net.node(name).peer_id

    look_until(is_there, lambda: nunet("events", identifier).out)


def await_no_programs(net: LocalNet, name: str) -> None:
    look_until(lambda: not net.programs(name), lambda: f"something still runs on {name}")
