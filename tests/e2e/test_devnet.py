"""``nunet devnet``: what it starts, what it refuses, and that nothing is ever left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet import network, processes
from dms.devnet.errors import NodeFailed
from dms.devnet.plan import free_ports
from dms.devnet.profile import PROFILE_FILE
from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet, run_nunet, start_nunet

pytestmark = pytest.mark.e2e
shared = pytest.mark.xdist_group("devnet")
alone = pytest.mark.xdist_group("other networks")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "net"
    processes.stop_all(list(processes.nodes_in(tmp_path / "net").values()))


@shared
def test_each_node_is_a_process_of_its_own_with_keys_directories_and_ports_of_its_own(net: LocalNet) -> None:
    nodes = net.profile.nodes
    assert [(node.name, node.is_provider) for node in nodes] == [("node1", True), ("node2", True), ("node3", False)]
    for of in ("peer_id", "did", "rest_port", "user_dir", "config"):
        assert len({getattr(node, of) for node in nodes}) == 3
    pids = {net.process(node.name).pid for node in nodes}
    assert {os.getsid(pid) for pid in pids} == pids  # a Ctrl-C at the terminal does not reach them

    assert net.directory.stat().st_mode & 0o777 == 0o700
    secrets = [Path(net.profile.passphrase_file), net.directory / PROFILE_FILE]
    for secret in [*secrets, *(Path(node.user_dir, "key", "dms.json") for node in nodes)]:
        assert secret.stat().st_mode & 0o777 == 0o600


@shared
def test_a_second_network_in_the_same_place_is_refused(net: LocalNet, nunet: Nunet) -> None:
    before = [net.process(node.name) for node in net.profile.nodes]
    done = nunet("devnet", "up", "--dir", net.directory)
    assert done.code == 5
    assert f"Error: a local network runs in {net.directory} already" in done.err
    assert [net.process(node.name) for node in net.profile.nodes] == before


@shared
def test_status_tells_which_nodes_answer(net: LocalNet, nunet: Nunet) -> None:
    net.end("node3")
    states = json.loads(nunet("devnet", "status", "--dir", net.directory, "--output", "json").out)
    assert [(s["name"], s["state"]) for s in states] == [("node1", "up"), ("node2", "up"), ("node3", "down")]
    assert states[2]["pid"] is None
    net.mend()
    states = json.loads(nunet("devnet", "status", "--dir", net.directory, "--output", "json").out)
    assert [(s["pid"], s["peers"]) for s in states] == [(net.process(s["name"]).pid, 2) for s in states]


@alone
def test_a_node_that_does_not_come_up_leaves_nothing(directory: Path) -> None:
    """Its REST port was taken after it had been found free."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        with pytest.raises(NodeFailed, match=rf"node2 ended with code 5: .*127\.0\.0\.1:{taken}"):
            network.up(directory, 2, 0, choose_ports=lambda count: (*free_ports(count - 1), taken))
    assert not directory.exists()
    assert not processes.nodes_in(directory)


@pytest.mark.matrix
@alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(directory: Path, number: signal.Signals) -> None:
    with start_nunet("devnet", "up", "-n", 2, "--providers", 0, "--dir", directory) as command:
        while not processes.nodes_in(directory):
            assert command.poll() is None
        command.send_signal(number)
        out, err = command.communicate()
    assert command.returncode == 128 + number
    assert "up and connected" not in out
    assert err.strip() == ("Interrupted; nothing of the network is left." if number == signal.SIGINT else "")
    assert not directory.exists()
    assert not processes.nodes_in(directory)


@alone
def test_what_a_start_that_was_killed_left_behind_is_ended(directory: Path) -> None:
    with start_nunet("devnet", "up", "-n", 1, "--dir", directory) as command:
        while not processes.nodes_in(directory):
            assert command.poll() is None
        command.send_signal(signal.SIGKILL)
        command.wait()
    assert processes.nodes_in(directory)
    assert run_nunet("devnet", "down", "--dir", directory).code == 0
    assert not directory.exists()
    assert not processes.nodes_in(directory)
