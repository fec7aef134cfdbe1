"""The composition root: a whole service in this process, started, stopped, started again; and what stops its start."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from dms import app
from dms.api.errors import RESTAddressInUse
from dms.app import CapabilityFile, Ready, serve
from dms.capability.context import CapabilityContext
from dms.capability.store import context_path, edit_context, load_context, save_context
from dms.capability.token import NO_TOKENS, Action, TokenList
from dms.config import Settings, load_settings
from dms.devnet.processes import read_health
from dms.identity.errors import KeystoreError
from dms.identity.ids import DID, NO_DID, did_of
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.types.errors import BadInput, Conflict, DMSError
from dms.types.ids import Capability

PASSPHRASE = "correct horse"
HOUR_NS = 3600 * 10**9


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
        return app._only_error(group)
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
    assert app._only_error(ExceptionGroup("outer", [ExceptionGroup("inner", [error])])) is error
    several = ExceptionGroup("several", [error, BadInput("that")])
    assert app._only_error(ExceptionGroup("outer", [several])) is several


def test_a_port_is_in_use_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert app.port_in_use(port)
    assert not app.port_in_use(port)


# anchors on disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def key() -> PrivateKey:
    return generate_key()


@pytest.fixture
def anchors(tmp_path: Path, key: PrivateKey) -> CapabilityFile:
    return CapabilityFile(context_path(tmp_path / "cap", "dms"), "dms", key)


def edit(anchors: CapabilityFile, change: Callable[[CapabilityContext], object]) -> None:
    """As the command line does: without the key."""
    with edit_context(anchors.path, TrustContext(), need_provider=False) as context:
        change(context)


def someone() -> DID:
    return did_of(generate_key().public)


def granted(by: PrivateKey, to: DID, capability: str) -> TokenList:
    context = CapabilityContext("x", did_of(by.public), TrustContext(Provider.of_key(by)))
    expiry_ns = time.time_ns() + HOUR_NS
    return context.grant(Action.DELEGATE, to, NO_DID, (), expiry_ns, 0, [Capability(capability)])


def test_a_context_is_made_where_there_is_none_and_kept_where_there_is(tmp_path: Path, key: PrivateKey) -> None:
    path = context_path(tmp_path / "cap", "dms")
    assert CapabilityFile(path, "dms", key).context.did == did_of(key.public)
    before = path.read_bytes()
    assert CapabilityFile(path, "dms", key).context.list_roots() == ((), NO_TOKENS, NO_TOKENS, NO_TOKENS)
    assert path.read_bytes() == before


def test_a_reload_takes_what_was_added_and_drops_what_was_removed(anchors: CapabilityFile) -> None:
    old, new = someone(), someone()
    edit(anchors, lambda context: context.add_roots([old]))
    anchors.reload()
    assert anchors.context.list_roots()[0] == (old,)
    edit(anchors, lambda context: context.remove_roots([old]))
    edit(anchors, lambda context: context.add_roots([new]))
    anchors.reload()
    assert anchors.context.list_roots()[0] == (new,)


def test_a_narrower_anchor_in_the_place_of_a_wider_one_counts(anchors: CapabilityFile, key: PrivateKey) -> None:
    subject = someone()
    wide, narrow = granted(key, subject, "/dms"), granted(key, subject, "/dms/deployment")
    edit(anchors, lambda context: context.add_roots(require=wide))
    anchors.reload()
    edit(anchors, lambda context: context.remove_roots(require=wide))
    edit(anchors, lambda context: context.add_roots(require=narrow))
    anchors.reload()
    assert anchors.context.list_roots()[1] == narrow


def test_what_the_node_granted_while_it_runs_survives_a_reload(anchors: CapabilityFile, key: PrivateKey) -> None:
    dynamic = granted(key, someone(), "/dms/allocation")
    anchors.context.add_roots(require=dynamic)
    edit(anchors, lambda context: context.add_roots([someone()]))
    anchors.reload()
    assert anchors.context.list_roots()[1] == dynamic


@pytest.mark.parametrize("damage", ["{", "[]", ""])
def test_a_damaged_file_changes_nothing(anchors: CapabilityFile, damage: str) -> None:
    root = someone()
    edit(anchors, lambda context: context.add_roots([root]))
    anchors.reload()
    anchors.path.write_text(damage)
    anchors.reload()
    assert anchors.context.list_roots()[0] == (root,)
    anchors.path.unlink()
    anchors.reload()
    assert anchors.context.list_roots()[0] == (root,)


def test_a_revocation_in_the_file_takes_effect(anchors: CapabilityFile, key: PrivateKey) -> None:
    grant = granted(key, someone(), "/public")
    edit(anchors, lambda context: context.add_roots(require=grant))
    anchors.reload()
    assert anchors.context.list_roots()[1] == grant
    own = load_context(anchors.path, TrustContext(Provider.of_key(key)))
    revocation = TokenList.of(own.revoke(grant.tokens[0]))
    edit(anchors, lambda context: context.add_roots(revoke=revocation))
    anchors.reload()
    assert anchors.context.list_roots()[1] == NO_TOKENS


async def test_a_changed_file_is_noticed_without_a_signal(
    anchors: CapabilityFile, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    nursery.start_soon(anchors.keep_up)
    root = someone()
    await trio.sleep(60)
    edit(anchors, lambda context: context.add_roots([root]))
    await trio.sleep(app.CAPABILITY_POLL_S * 1.5)
    assert anchors.context.list_roots()[0] == (root,)
    anchors.path.write_text("{")
    await trio.sleep(60)
    save_context(CapabilityContext("dms", anchors.context.did, TrustContext()), anchors.path)
    await trio.sleep(app.CAPABILITY_POLL_S * 1.5)
    assert anchors.context.list_roots()[0] == ()


async def test_a_signal_reloads_at_once(anchors: CapabilityFile, nursery: trio.Nursery) -> None:
    nursery.start_soon(anchors.reload_on_signal)
    await trio.testing.wait_all_tasks_blocked()
    root = someone()
    edit(anchors, lambda context: context.add_roots([root]))
    signal.raise_signal(signal.SIGUSR1)
    while anchors.context.list_roots()[0] != (root,):
        await trio.testing.wait_all_tasks_blocked()


async def test_in_another_thread_signals_are_left_to_whoever_embeds_the_service(anchors: CapabilityFile) -> None:
    await trio.to_thread.run_sync(trio.run, anchors.reload_on_signal)
