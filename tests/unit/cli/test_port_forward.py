"""``nunet port-forward``: what it is given, what passes, and what is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

import pytest

from dms.cli.port_forward import Forwarded, read_ports
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.testing.localnet import nunet_command, start_nunet
from dms.types.errors import BadInput

BEHAVIOUR = "/dms/node/deployment/forward"


@pytest.fixture
def service(node: ScriptedDaemon) -> ScriptedDaemon:
    """Port 80 answers in capitals what it was told."""
    node.ports[80] = bytes.upper
    node.answers[BEHAVIOUR] = lambda _: {"ok": True, "ticket": "right", "lifetime_s": 120, "allocation": "n1.web"}
    return node


def talk(port: int, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        heard = b""
        while data := connection.recv(1 << 16):
            heard += data
        return heard


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("80", Forwarded(80, 80)),
        ("8080:80", Forwarded(8080, 80)),
        ("0:80", Forwarded(0, 80)),
        (":80", Forwarded(0, 80)),
        ("65535:65535", Forwarded(65535, 65535)),
    ],
)
def test_ports_are_read(text: str, meant: Forwarded) -> None:
    assert read_ports(text) == meant


@pytest.mark.parametrize("text", ["", ":", "0", "x", "80:", "80:0", "65536", "1:65536", "1:2:3", "-1:80", "8\u0660:80"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is no port and no pair of ports"):
        read_ports(text)


def test_several_ports_lead_there_until_ctrl_c(service: ScriptedDaemon) -> None:
    service.ports[90] = lambda heard: heard[::-1]
    with start_nunet("port-forward", "3f2a", "web", "0:80", "0:90") as forwarding:
        assert forwarding.stdout is not None
        lines = [forwarding.stdout.readline().split() for _ in range(2)]
        assert [line[2] for line in lines] == ["n1.web:80", "n1.web:90"]
        first, second = (int(line[0].rpartition(":")[2]) for line in lines)
        assert talk(first, b"hello" * 50_000) == b"HELLO" * 50_000
        assert talk(second, b"hello") == b"olleh"
        assert talk(first, b"again") == b"AGAIN"
        forwarding.send_signal(signal.SIGINT)
        assert forwarding.wait(30) == 130
    (asked,) = service.payloads_of(BEHAVIOUR)[:1]
    assert (asked["id"], asked["allocation"], asked["ports"]) == ("3f2a", "web", [80, 90])


def test_one_connection_over_standard_input_and_output(service: ScriptedDaemon) -> None:
    command = nunet_command("port-forward", "--stdio", "3f2a", "web", "80")
    done = subprocess.run(command, input=b"hello" * 50_000, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO" * 50_000, b"")


def test_a_port_that_is_not_reached_is_told_and_the_others_go_on(service: ScriptedDaemon) -> None:
    with start_nunet("port-forward", "3f2a", "web", "0:81", "0:80") as forwarding:
        assert forwarding.stdout is not None
        assert forwarding.stderr is not None
        ports = [int(forwarding.stdout.readline().split()[0].rpartition(":")[2]) for _ in range(2)]
        with contextlib.suppress(ConnectionError):
            assert talk(ports[0], b"") == b""
        assert forwarding.stderr.readline() == "port 81: port 81 is not reached: Connection refused\n"
        assert talk(ports[1], b"hello") == b"HELLO"


def test_over_standard_output_it_is_the_end(nunet: Nunet, service: ScriptedDaemon) -> None:
    done = nunet("port-forward", "--stdio", "3f2a", "web", "81")
    assert (done.code, done.out) == (1, "")
    assert done.err == ("Error: port 81 is not reached: Connection refused\nHint: does something listen there?\n")


def test_a_ticket_that_is_refused_is_the_end(nunet: Nunet, node: ScriptedDaemon) -> None:
    node.answers[BEHAVIOUR] = lambda _: {"ok": False, "error": "only who submitted the deployment may do this"}
    done = nunet("port-forward", "3f2a", "web", "0:80")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("Error: only who submitted the deployment may do this")


def test_a_local_port_that_is_taken_is_told(nunet: Nunet, service: ScriptedDaemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = nunet("port-forward", "3f2a", "web", f"{port}:80")
    assert done.code == 2
    assert done.err.startswith(f"Error: cannot listen on 127.0.0.1 port {port}: ")
    assert "0:80" in done.err


def test_standard_output_is_for_one_port(nunet: Nunet, service: ScriptedDaemon) -> None:
    done = nunet("port-forward", "--stdio", "3f2a", "web", "80", "81")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --stdio is one connection to one port")


def test_without_a_node_nothing_is_forwarded(
    nunet: Nunet, node: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_REST_PORT", "1")
    assert nunet("port-forward", "3f2a", "web", "80").code == 6
    assert os.environ["DMS_REST_PORT"] == "1"
