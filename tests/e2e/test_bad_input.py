"""Whatever is wrong: one clear line, its exit code, a truthful status; the nodes live on and nothing stays reserved."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from dms.capability.context import CapabilityContext
from dms.cli.client import Client
from dms.cli.rest import Rest
from dms.identity.ids import did_of
from dms.identity.keys import generate_key
from dms.identity.trust import Provider, TrustContext
from dms.network.protocol import MAX_MESSAGE_BYTES
from dms.testing.commandline import Done, Nunet
from dms.testing.daemon import make_person
from dms.testing.localnet import LocalNet, run_nunet

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]

PROBE = Path(__file__).parents[1] / "programs" / "probe.wasm"
PROVIDERS = ("node1", "node2")
TASK = """version: V1
resources: {small: {cpu: {cores: 1}, ram: {size: 1}, disk: {size: 1}}}
allocations:
  a: {type: task, resources: small, executor: wasm, execution: {type: wasm, module_path: /a.wasm}}
nodes: {n: {allocations: [a]}}
"""


@pytest.fixture(autouse=True)
def _unharmed(net: LocalNet) -> Iterator[None]:
    """The same processes answer before and after, and as much is free."""
    before = {node.name: net.process(node.name).pid for node in net.profile.nodes}
    free = {name: net.free(name) for name in PROVIDERS}
    yield
    net.await_connected()
    assert {name: net.process(name).pid for name in before} == before
    assert {name: net.free(name) for name in PROVIDERS} == free


def error_of(done: Done) -> str:
    """The one line, without the hint that may follow."""
    lines = done.err.splitlines()
    assert lines[0].startswith("Error: ")
    assert all(line.startswith("Hint: ") for line in lines[1:]), done.err
    assert len(lines) <= 2
    return lines[0].removeprefix("Error: ")


def probe(directory: Path, *args: str, ram: str = "32MiB", **execution: object) -> Path:
    """An ensemble with one task that runs the probe."""
    name = f"{secrets.token_hex(4)}.json"
    shutil.copy(PROBE, directory / PROBE.name)
    task = {
        "type": "task",
        "executor": "wasm",
        "resources": {"cpu": {"cores": 0.1}, "ram": {"size": ram}, "disk": {"size": "16MiB"}},
        "execution": {"type": "wasm", "module": f"${{file:{PROBE.name}}}", "args": list(args), **execution},
    }
    document = {"version": "V1", "allocations": {"a": task}, "nodes": {"n": {"allocations": ["a"]}}}
    (directory / name).write_text(json.dumps(document))
    return directory / name


# ensembles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("version: V1\nallocations: [\n", "ensemble.yaml:3:1: not YAML"),
        (TASK.replace("wasm", "wasn"), "ensemble.yaml:4:47: V1.allocations.a.executor: "),
        ("", "ensemble.yaml"),
    ],
    ids=["malformed", "unknown executor", "empty"],
)
def test_an_ensemble_that_cannot_be_right_is_refused_before_anything_is_sent(
    net: LocalNet, nunet: Nunet, tmp_path: Path, text: str, where: str
) -> None:
    file = tmp_path / "ensemble.yaml"
    file.write_text(text)
    known = nunet("get", "deployments", "--output", "json").out
    done = nunet("deploy", "-f", file)
    assert done.code == 2
    assert where in done.err
    assert nunet("get", "deployments", "--output", "json").out == known


@pytest.mark.parametrize("command", ["status", "logs", "events", "shutdown"])
def test_a_deployment_that_nobody_knows(net: LocalNet, nunet: Nunet, command: str) -> None:
    done = nunet(command, "0123abcd")
    assert done.code == 4
    assert "0123abcd" in error_of(done)


# programs ------------------------------------------------------------------------------------------------------------


def test_programs_that_misbehave_fail_with_the_reason(net: LocalNet, nunet: Nunet, tmp_path: Path) -> None:
    cases = {
        "trap": (probe(tmp_path, "trap"), "unreachable"),
        "timeout": (probe(tmp_path, "sleep", "60000", timeout="1s"), "1 s"),
        "cpu": (probe(tmp_path, "spin", max_cpu_s=0.5), "0.5 s"),
        "memory": (probe(tmp_path, "hog", "1048576"), "memory"),
        "exit": (probe(tmp_path, "exit", "7"), "7"),
    }
    ids = {name: nunet("deploy", "-f", file, "--id-only").out.strip() for name, (file, _) in cases.items()}
    for name, (_, reason) in cases.items():
        net.await_event(ids[name], "n.a ended: failed")
        document = json.loads(nunet("status", ids[name], "--output", "json").out)
        assert document["status"] == "Failed", name
        assert reason in document["error"], name
        assert document["allocations"]["n.a"]["status"] == "failed"
    assert "spinning" in nunet("logs", ids["cpu"]).out

    done = nunet("deploy", "-f", cases["exit"][0], "--until", "ended", "--wait")
    assert done.code == 1
    assert "n.a: " in error_of(done)


def test_what_no_machine_can_hold_gets_no_bids_and_says_so(net: LocalNet, nunet: Nunet, tmp_path: Path) -> None:
    file = probe(tmp_path, "hello", ram="900TiB")
    identifier = nunet("deploy", "-f", file, "--timeout", "60s", "--id-only").out.strip()
    told = net.await_event(identifier, "none chosen")
    assert "no bids" in told or "no bid for n" in told
    status = json.loads(nunet("status", identifier, "--output", "json").out)
    assert status["status"] == "Preparing"
    assert "n" in status["error"]

    assert nunet("shutdown", identifier).code == 0
    assert json.loads(nunet("status", identifier, "--output", "json").out)["status"] == "Completed"


# keys and authority --------------------------------------------------------------------------------------------------


def test_a_wrong_passphrase_is_an_error_of_its_own(
    net: LocalNet, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "not this")
    done = nunet("get", "deployments")
    assert done.code == 3
    assert "cannot open the key 'user'" in error_of(done)
    assert "the passphrase is wrong" in done.err


@pytest.mark.parametrize(("file", "code"), [("key/user.json", 2), ("cap/user.cap", 2)], ids=["keystore", "context"])
def test_a_damaged_file_of_the_person_is_named(
    net: LocalNet, nunet: Nunet, tmp_path: Path, file: str, code: int
) -> None:
    user_dir = tmp_path / "user"
    shutil.copytree(net.profile.user_dir, user_dir)
    (user_dir / file).write_bytes(b'{"crypto": 7')
    done = nunet("--user-dir", user_dir, "get", "deployments")
    assert done.code == code
    assert str(user_dir / file) in error_of(done)


def test_whom_the_nodes_do_not_know_gets_no_reply(
    net: LocalNet, nunet: Nunet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_person(tmp_path / "stranger")
    monkeypatch.setenv("DMS_PASSPHRASE", "correct horse")
    done = nunet("--user-dir", tmp_path / "stranger", "actor", "cmd", "/dms/node/peers/list", "-t", "1s")
    assert done.code == 6
    assert "no reply to /dms/node/peers/list within" in error_of(done)
    assert "strangers get no answer" in done.err


def test_a_node_that_does_not_run(net: LocalNet, nunet: Nunet) -> None:
    done = nunet("--rest-port", "1", "get", "deployments")
    assert done.code == 6
    assert error_of(done).startswith("no node answers at 127.0.0.1:1: ")


# what a daemon meets when it starts ----------------------------------------------------------------------------------


def test_a_port_that_is_taken_ends_the_start_in_one_line(net: LocalNet, tmp_path: Path) -> None:
    node = net.node("node1")
    document = json.loads(Path(node.config).read_bytes())
    (tmp_path / "user").mkdir()
    shutil.copytree(Path(node.user_dir, "key"), tmp_path / "user/key")
    document["general"] = {"user_dir": str(tmp_path / "user"), "work_dir": str(tmp_path / "work")}
    document["rest"]["port"] = 0
    del document["observability"]
    (tmp_path / "dms_config.json").write_text(json.dumps(document))
    done = run_nunet("--config", tmp_path / "dms_config.json", "run", env={"DMS_PASSPHRASE": net.profile.passphrase()})
    assert done.code == 5
    (address,) = document["p2p"]["listen_address"]
    assert address in error_of(done)


# hostile bytes -------------------------------------------------------------------------------------------------------


def test_garbage_on_both_ports(net: LocalNet) -> None:
    node = net.node("node1")
    p2p = int(json.loads(Path(node.config).read_bytes())["p2p"]["listen_address"][0].split("/")[4])
    for port in (p2p, node.rest_port):
        for data in (b"\0" * 64, secrets.token_bytes(4096), b"GET / HTTP/9.9\r\n\r\n", b"\x13/multistream/1.0.0\n\xff"):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
                contextlib.suppress(OSError),  # it may have had enough before we are done
            ):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)


def test_envelopes_that_cannot_be_right_are_refused_by_the_rest_server(net: LocalNet) -> None:
    node, client = net.node(), net.client()
    good = client.message(client.node, "/public/hello", None).encode()
    assert post(node.rest_port, "invoke", good)[0] == 200

    tampered = good.replace(b"/public/hello", b"/public/hallo")
    unsigned = json.dumps(json.loads(good) | {"sig": ""}).encode()
    for body, reason in (
        (tampered, "signature"),
        (unsigned, "signature"),
        (b"[" * 100_000, "nested deeper"),
        (b"null", ""),
        (b" " * (MAX_MESSAGE_BYTES + 1), "message too large"),
    ):
        status, answer = post(node.rest_port, "invoke", body)
        assert (status, reason in answer["error"]) == (400, True), answer


def test_a_message_from_somebody_without_the_capability_is_not_answered(net: LocalNet) -> None:
    key = generate_key()
    stranger = CapabilityContext("stranger", did_of(key.public), TrustContext(Provider.of_key(key)))
    node = net.node()
    client = Client(Rest(node.rest_addr, node.rest_port), lambda: stranger)
    message = client.message(client.node, "/dms/node/deployment/list", {}, timeout_s=1.0)
    assert post(node.rest_port, "invoke", message.encode())[0] == 408


def post(port: int, path: str, body: bytes) -> tuple[int, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/api/v1/actor/{path}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
