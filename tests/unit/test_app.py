"""The composition root: a whole service in this process, started, stopped, started again; and what stops its start."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing

from dms.actor.envelope import Envelope, Options
from dms.actor.errors import Replayed
from dms.actor.handle import Address, Handle, handle_of_did
from dms.actor.security import SecurityContext
from dms.api.errors import RESTAddressInUse
from dms.app import Ready, options, serve
from dms.capability.context import CapabilityContext
from dms.cli.main import invoke
from dms.config import Settings, load_settings
from dms.daemon import process
from dms.devnet.processes import read_health
from dms.identity.errors import KeystoreError, NoProvider
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.prism.associations import PrismAssociations
from dms.identity.trust import Provider, TrustContext
from dms.observe import get_logger
from dms.resources.declared import declared
from dms.resources.errors import InvalidResources
from dms.testing import wallets
from dms.testing.prism import serve_prism
from dms.types.errors import BadInput, Conflict, DMSError
from dms.types.ids import Capability

PASSPHRASE = "correct horse"
HOUR_NS = 3600 * 10**9
REPLY = "/dms/actor/replyto/1"
JSON = {"Content-Type": "application/json"}


def settings_in(directory: Path, **sections: object) -> Settings:
    """A node that listens on free ports of loopback and lives in ``directory``."""
    document = {
        "general": {"user_dir": str(directory / "user"), "work_dir": str(directory / "work"), "env": "test"},
        "rest": {"port": 0},
        "p2p": {"listen_address": ["/ip4/127.0.0.1/tcp/0"], "bootstrap_peers": []},
    }
    file = directory / "dms_config.json"
    file.write_text(json.dumps(document | sections))
    return load_settings(file, {}, {})


def make_key(directory: Path, name: str = "dms") -> PrivateKey:
    """A key that opens fast."""
    key = generate_key()
    Keystore(directory / "user/key", scrypt_n=2).save(name, key, PASSPHRASE)
    return key


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[Ready]:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve, settings, "dms", PASSPHRASE, stop)
        stop.set()


async def failure_of(settings: Settings, passphrase: str = PASSPHRASE) -> BaseException:
    """What a start raises, whatever it is wrapped in."""
    try:
        await serve(settings, "dms", passphrase, trio.Event())
    except BaseExceptionGroup as group:
        return process.only_error(group)
    except DMSError as exc:
        return exc
    raise AssertionError("it started")


# the service ---------------------------------------------------------------------------------------------------------


async def test_a_service_answers_and_is_the_same_after_a_restart(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    settings = settings_in(tmp_path)
    async with service(settings) as first:
        assert await trio.to_thread.run_sync(read_health, first.rest_port) == {"status": "ok", "peers": 0}
        assert first.did == did_of(key.public).uri
        (address,) = first.listen_addresses
        assert address.startswith("/ip4/127.0.0.1/tcp/")
        assert address.endswith(f"/p2p/{first.peer_id}")
    assert await trio.to_thread.run_sync(read_health, first.rest_port) is None

    async with service(settings) as second:
        assert (second.peer_id, second.did) == (first.peer_id, first.did)
    assert (tmp_path / "user/cap/dms.cap").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "work/logs/nunet-dms-logs.jsonl").read_text().splitlines()[-1])["level"] == "INFO"


async def test_two_services_do_not_share_a_directory(tmp_path: Path) -> None:
    make_key(tmp_path)
    settings = settings_in(tmp_path)
    async with service(settings) as ready:
        error = await failure_of(settings)
        assert isinstance(error, Conflict)
        assert str(tmp_path / "work") in error.message
        assert await trio.to_thread.run_sync(read_health, ready.rest_port) is not None


@pytest.mark.parametrize("which", ["rest", "p2p"])
async def test_a_port_that_is_taken_stops_the_start_and_leaves_the_rest_free(tmp_path: Path, which: str) -> None:
    make_key(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        section = {"port": port} if which == "rest" else {"listen_address": [f"/ip4/127.0.0.1/tcp/{port}"]}
        settings = settings_in(tmp_path, **{which: section})
        error = await failure_of(settings)
        assert isinstance(error, Conflict)
        assert isinstance(error, RESTAddressInUse) == (which == "rest")
        assert str(port) in error.message
    async with service(settings_in(tmp_path)):
        pass


async def test_a_wrong_passphrase_stops_the_start(tmp_path: Path) -> None:
    make_key(tmp_path)
    error = await failure_of(settings_in(tmp_path), "not this")
    assert isinstance(error, KeystoreError)
    assert error.exit_code == 3


async def test_a_key_of_another_kind_stops_the_start(tmp_path: Path) -> None:
    key = PrivateKey(KeyType.SECP256K1, b"\1" * 32)
    Keystore(tmp_path / "user/key", scrypt_n=2).save("dms", key, PASSPHRASE)
    error = await failure_of(settings_in(tmp_path))
    assert isinstance(error, BadInput)
    assert error.message == "the key dms is of type SECP256K1; a node needs an Ed25519 key"


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    error = await failure_of(settings_in(tmp_path))
    assert isinstance(error, BadInput)
    assert f"cannot use the directory {tmp_path / 'work'}" in error.message


async def test_a_damaged_context_stops_the_start(tmp_path: Path) -> None:
    make_key(tmp_path)
    (tmp_path / "user/cap").mkdir()
    (tmp_path / "user/cap/dms.cap").write_text("{")
    error = await failure_of(settings_in(tmp_path))
    assert isinstance(error, DMSError)
    assert error.exit_code == 2


def test_errors_are_taken_out_of_their_groups() -> None:
    error = BadInput("this")
    assert process.only_error(ExceptionGroup("outer", [ExceptionGroup("inner", [error])])) is error
    several = ExceptionGroup("several", [error, BadInput("that")])
    assert process.only_error(ExceptionGroup("outer", [several])) is several


def test_a_port_is_in_use_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert options.port_in_use(port)
    assert not options.port_in_use(port)


async def test_a_key_with_a_did_prism_serves_as_that(tmp_path: Path) -> None:
    make_key(tmp_path)
    prism = DID(uri="did:prism:" + "ab" * 32)
    PrismAssociations(tmp_path / "user").set("dms", prism)
    async with service(settings_in(tmp_path)) as ready:
        assert ready.did == prism.uri
        assert await trio.to_thread.run_sync(read_health, ready.rest_port) is not None
    assert json.loads((tmp_path / "user/cap/dms.cap").read_text())["did"] == {"uri": prism.uri}


async def test_a_wallet_cannot_be_the_key_of_a_service(tmp_path: Path) -> None:
    with pytest.raises(NoProvider, match="'ledger:1' is a wallet's"):
        await serve(settings_in(tmp_path), "ledger:1", PASSPHRASE, trio.Event())
    assert not (tmp_path / "user/key").exists()


async def test_a_person_whose_identity_is_a_wallet_or_a_did_prism_commands_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_key(tmp_path)
    own = make_key(tmp_path, "user")
    prism = DID(uri="did:prism:" + "cd" * 32)
    PrismAssociations(tmp_path / "user").set("user", prism)
    wallets.install_ledger(tmp_path / "bin", bytes(31) + b"\x05")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("DMS_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("DMS_GENERAL_USER_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("NO_PROXY", "*")
    with serve_prism() as resolver:
        resolver.publish(prism, own.public)
        for name in ("user", "ledger"):
            assert await nunet("cap", "new", name) == 0
        capfd.readouterr()
        assert await nunet("key", "did", "ledger") == 0
        roots = (prism.uri, capfd.readouterr().out.strip())
        settings = settings_in(tmp_path, identity={"prism_resolver_url": resolver.url})
        async with service(settings) as ready:
            monkeypatch.setenv("DMS_REST_PORT", str(ready.rest_port))
            refused = await nunet("actor", "cmd", "-c", "user", "-t", "1s", "/dms/node/peers/self")
            assert refused != 0
        for root in roots:
            assert await nunet("cap", "anchor", "-c", "dms", "--root", root) == 0
        async with service(settings) as ready:
            monkeypatch.setenv("DMS_REST_PORT", str(ready.rest_port))
            for name in ("user", "ledger"):
                capfd.readouterr()
                assert await nunet("actor", "cmd", "-c", name, "/dms/node/peers/self") == 0
                assert json.loads(capfd.readouterr().out)["id"] == ready.peer_id
    assert [path for _, path, _ in resolver.requests] == [f"/api/dids/{prism}"]


async def nunet(*args: str) -> int:
    """The exit code of a command line, run beside the services of this process."""
    return await trio.to_thread.run_sync(invoke, list(args))


# settings that change ------------------------------------------------------------------------------------------------


async def test_settings_of_a_running_service_are_shown_changed_reloaded_and_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_key(tmp_path)
    owner = make_key(tmp_path, "user")
    monkeypatch.setenv("DMS_PASSPHRASE", PASSPHRASE)
    for name in ("dms", "user"):
        assert await nunet("--user-dir", str(tmp_path / "user"), "cap", "new", name) == 0
    anchor = ("cap", "anchor", "-c", "dms", "--root", did_of(owner.public).uri)
    assert await nunet("--user-dir", str(tmp_path / "user"), *anchor) == 0
    settings = settings_in(tmp_path, offer={"max_hours": 1})
    config, log = tmp_path / "dms_config.json", tmp_path / "work/logs/nunet-dms-logs.jsonl"

    async def told(*args: str) -> str:
        capfd.readouterr()
        where = ("--rest-port", str(ready.rest_port), "--user-dir", str(tmp_path / "user"))
        assert await nunet("--config", str(config), *where, "config", *args) == 0, capfd.readouterr().err
        return capfd.readouterr().out

    async with service(settings) as ready:
        assert await told("set", "--live", "observability.logging.level", "DEBUG") == (
            'observability.logging.level: "INFO" → "DEBUG", in force now\n'
        )
        assert (await told("set", "--live", "job.dns_upstream", "192.0.2.1")).endswith(", in force now\n")
        assert "DEBUG" not in {json.loads(line)["level"] for line in log.read_text().splitlines()}
        get_logger("dms.test").debug("shown_now")
        assert '"shown_now"' in log.read_text()
        assert await told("get", "--live", "offer.max_hours") == "1\n"
        assert "live" in await told("show", "--live", "observability.logging.level")
        assert did_of(owner.public).uri in await told("history")
        config.write_text(json.dumps(json.loads(config.read_text()) | {"offer": {"max_hours": 2}, "p2p": {"fd": 9}}))
        assert await told("reload") == (
            "offer.max_hours = 2\nchanged, and in force after a restart: "
            "p2p.listen_address, p2p.bootstrap_peers, p2p.fd\n"
        )
        config.write_text(json.dumps(json.loads(config.read_text()) | {"offer": {"max_hours": 3}}))
        signal.raise_signal(signal.SIGHUP)
        with trio.fail_after(10):
            while "settings_need_restart" not in log.read_text():  # noqa: ASYNC110  a file tells nobody
                await trio.sleep(0.01)
        assert json.loads(await told("get", "--live", "offer"))["max_hours"] == 3
        assert await nunet("--config", str(config), "--rest-port", "1", "config", "get", "--live") == 6

    async with service(settings_in(tmp_path)) as ready:
        assert await told("get", "--live", "observability.logging.level") == "DEBUG\n"
        assert "→" in await told("reset", "--live")
        assert await told("get", "--live", "observability.logging.level") == "INFO\n"


# messages that were seen ---------------------------------------------------------------------------------------------


async def test_a_captured_message_is_refused_and_counted_after_a_restart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An envelope of the owner's that was handled before; its bytes are delivered again, to another life of the node."""
    key, owner = make_key(tmp_path), make_key(tmp_path, "user")
    monkeypatch.setenv("DMS_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("DMS_GENERAL_USER_DIR", str(tmp_path / "user"))
    assert await nunet("cap", "new", "dms") == 0
    assert await nunet("cap", "anchor", "-c", "dms", "--root", did_of(owner.public).uri) == 0
    did = did_of(owner.public)
    security = SecurityContext(owner, CapabilityContext("user", did, TrustContext(Provider.of_key(owner))))
    node = handle_of_did(did_of(key.public))
    behaviour = "/dms/node/peers/self"
    message = Envelope(
        to=node,
        be=behaviour,
        from_=Handle(id=security.id, did=did, addr=Address(host=node.addr.host, inbox="user-1")),
        nonce=security.next_nonce(),
        opt=Options(exp=time.time_ns() + HOUR_NS // 2, cont=REPLY),
        msg=b"null",
    )
    captured = security.provide(message, [Capability(behaviour)], [Capability(REPLY)])
    log = tmp_path / "work/logs/nunet-dms-logs.jsonl"
    for outcome in ("dispatched", "replayed"):
        async with service(settings_in(tmp_path)) as ready, httpx2.AsyncClient(trust_env=False, headers=JSON) as client:
            base = f"http://127.0.0.1:{ready.rest_port}/api/v1/actor"
            if outcome == "dispatched":
                answer = await client.post(f"{base}/invoke", content=captured.encode(), timeout=10)
                assert answer.status_code == 200, answer.text
                assert answer.json()["from"]["addr"]["host"] == ready.peer_id
                continue
            assert (await client.post(f"{base}/send", content=captured.encode())).status_code == 200
            with trio.fail_after(10):
                while "message_dropped" not in log.read_text():  # noqa: ASYNC110  a file tells nobody
                    await trio.sleep(0.01)
    (dropped,) = [line for line in log.read_text().splitlines() if "message_dropped" in line]
    assert str(Replayed()) in dropped


def test_what_the_owner_allows_and_says_reaches_the_node(tmp_path: Path) -> None:
    offer = {"libraries": ["openmpi 4.1.6"], "prices": ["NTX 0.5"], "proofs": ["iso27001 c-77"], "max_hours": 24}
    told = options.node_options(settings_in(tmp_path, job={"allow_privileged_docker": True}, offer=offer))
    assert told.allow_privileged
    assert told.declared == declared(
        libraries=("openmpi 4.1.6",), prices=("NTX 0.5",), proofs=("iso27001 c-77",), max_hours=24
    )
    assert not options.node_options(settings_in(tmp_path)).allow_privileged
    assert told.hosting.allow_exec
    assert told.hosting.orphan_grace_s == 3 * 3600
    patient = options.node_options(settings_in(tmp_path, job={"orphan_grace": "2d"}))
    assert patient.hosting.orphan_grace_s == 2 * 86_400
    assert told.keep_deployments_s == 90 * 24 * 3600
    other = options.node_options(settings_in(tmp_path, job={"allow_exec": False}, deployments={"keep": "1h30m"}))
    assert (other.hosting.allow_exec, other.keep_deployments_s) == (False, 5400)


async def test_an_offer_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    make_key(tmp_path)
    error = await failure_of(settings_in(tmp_path, offer={"prices": ["cheap"]}))
    assert (type(error), str(error)) == (InvalidResources, 'invalid price "cheap"')
