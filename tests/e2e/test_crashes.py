"""Crashes of every party: what runs is found again, what was promised is kept, what is over is freed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.ticking import ticker

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet
from dms.testing.looking import WAIT_S

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]

KEY = "n.tick"


@pytest.fixture(autouse=True)
def _mended(net: LocalNet) -> Iterator[None]:
    yield
    net.mend()


@pytest.fixture
def service(net: LocalNet, nunet: Nunet, tmp_path: Path) -> Iterator[str]:
    """The id of a deployment whose service ticks every 100 ms on node1; shut down afterwards where it still runs."""
    file = ticker(tmp_path, peer=net.node("node1").peer_id)
    identifier = nunet("deploy", "-f", file).out.strip()
    yield identifier
    if not net.deployment(identifier).progress().is_final:
        nunet("shutdown", identifier)


def test_a_provider_that_was_killed_adopts_its_workload_and_goes_on_reporting(
    net: LocalNet, nunet: Nunet, service: str
) -> None:
    free = net.free("node1")
    (program,) = net.programs("node1")
    net.end("node1", signal.SIGKILL)
    net.mend()
    assert net.programs("node1") == [program]  # the very process, not another one of the kind
    assert net.free("node1") == free
    assert nunet("status", service).out.splitlines()[1].split() == ["Status", "Running"]
    before = ticks(nunet, service)
    while ticks(nunet, service) == before:
        pass

    assert nunet("shutdown", service).out.strip() == "Completed"
    program.wait(WAIT_S)
    assert net.free("node1").ram.size - free.ram.size == 32 << 20


def test_an_orchestrator_that_was_killed_takes_its_deployments_up_again(
    net: LocalNet, nunet: Nunet, service: str
) -> None:
    free = net.free("node1")
    net.end("node3", signal.SIGKILL)
    net.mend()
    net.await_event(service, "taken up again after a restart of the node")
    assert nunet("status", service).out.splitlines()[1].split() == ["Status", "Running"]
    assert ticks(nunet, service) > 0

    assert nunet("shutdown", service).out.strip() == "Completed"
    assert net.free("node1").ram.size - free.ram.size == 32 << 20


@pytest.mark.long("tests/faults/test_killed_daemons.py", "tests/sim/test_restarts.py")
def test_a_workload_that_ended_while_its_provider_was_down_is_told_truly(
    net: LocalNet, nunet: Nunet, service: str
) -> None:
    (program,) = net.programs("node1")
    net.end("node1", signal.SIGKILL)
    program.kill()
    net.mend()
    net.await_event(service, f"{KEY} ended: failed")
    document = json.loads(nunet("status", service, "--output", "json").out)
    assert document["status"] == "Failed"
    assert document["allocations"][KEY]["status"] == "failed"


def test_sigterm_ends_a_node_with_code_0(net: LocalNet) -> None:
    net.end("node3", signal.SIGKILL)
    net.mend()
    assert net.end("node3", signal.SIGTERM) == 0


def ticks(nunet: Nunet, identifier: str) -> int:
    return nunet("logs", identifier, "tick").out.count("tick ")
