"""Settings that change while a node runs: over the file, under variables and flags, kept, accounted for, taken up or undone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dms.actor.actor import Actor
from dms.actor.errors import InvocationTimeout
from dms.config import ConfigError, SettingNotFound, Settings, load_settings
from dms.config.errors import FixedSetting, InvalidSetting, NotLive
from dms.config.keys import keys
from dms.config.origin import Source
from dms.node.config_payloads import (
    CONFIG,
    MAX_CHANGES,
    ConfigHistoryRequest,
    ConfigReply,
    ConfigRequest,
    ConfigResetRequest,
    ConfigSetRequest,
)
from dms.node.configuring import ConfigBehaviours
from dms.node.live import LiveSettings
from dms.store import Repository, Store, StoreError
from dms.store.schema import live_settings, setting_changes
from dms.testing.actors import World
from dms.types.errors import BadInput

OWNER = "did:key:owner"
ENV = {"HOME": "/h"}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with await Store.open(None) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dms_config.json"
    path.write_text('{"offer": {"max_hours": 1}}')
    return path


def rewrite(file: Path, text: str | None) -> None:
    file.unlink() if text is None else file.write_text(text)


def text_of(file: Path) -> str:
    return file.read_text()


def clock() -> Callable[[], int]:
    ticks: Iterator[int] = count(1)
    return lambda: next(ticks)


async def opened(store: Store, file: Path, env: Mapping[str, str] = ENV) -> LiveSettings:
    return await LiveSettings.open(store, load_settings(file, env=env), clock())


async def test_a_value_set_at_run_time_is_in_force_at_once_and_after_a_restart(store: Store, file: Path) -> None:
    live = await opened(store, file)
    taken_up: list[int] = []
    live.attend(lambda now: taken_up.append(now.offer.max_hours), "offer")
    (change,) = await live.set({"offer.max_hours": "5"}, OWNER)
    assert (change.key, change.how, change.old, change.new, change.by) == ("offer.max_hours", "set", "1", "5", OWNER)
    assert taken_up == [5]
    assert live.settings.offer.max_hours == 5
    assert live.settings.origin("offer.max_hours").source is Source.LIVE
    again = await opened(store, file)
    assert again.settings.offer.max_hours == 5
    assert again.values["offer.max_hours"].by == OWNER
    assert text_of(file) == '{"offer": {"max_hours": 1}}'


async def test_several_keys_change_together_or_not_at_all(store: Store, file: Path) -> None:
    live = await opened(store, file)
    with pytest.raises(InvalidSetting, match=r"deployments.keep .*write it like 30d"):
        await live.set({"offer.max_hours": 5, "deployments.keep": "long"}, OWNER)
    assert live.settings.offer.max_hours == 1
    assert await live.changes() == ()
    done = await live.set({"offer.max_hours": 5, "Deployments.Keep": "1d", "offer.prices": ["NTX 1"]}, OWNER)
    assert {change.key: change.new for change in done} == {
        "offer.max_hours": "5",
        "deployments.keep": '"1d"',
        "offer.prices": '["NTX 1"]',
    }


async def test_what_is_not_live_or_fixed_from_outside_or_no_setting_is_refused(store: Store, file: Path) -> None:
    live = await opened(store, file, {**ENV, "DMS_OFFER_MAX_HOURS": "3"})
    with pytest.raises(NotLive, match=r"rest.port does not change while the node runs"):
        await live.set({"rest.port": 5}, OWNER)
    with pytest.raises(FixedSetting, match=r"offer.max_hours is fixed \(environment variable DMS_OFFER_MAX_HOURS\)"):
        await live.set({"offer.max_hours": 5}, OWNER)
    with pytest.raises(SettingNotFound) as caught:
        await live.set({"offer.max_hour": 5}, OWNER)
    assert caught.value.hint == 'did you mean "offer.max_hours"?'
    for value in ("x" * 20_000, ["x" * 20_000], {"a": 1}, None, 1.5, True):
        with pytest.raises(ConfigError):
            await live.set({"offer.libraries": value}, OWNER)
    assert live.values == {}


async def test_reset_gives_file_and_default_their_say_again(store: Store, file: Path) -> None:
    live = await opened(store, file)
    await live.set({"offer.max_hours": 5, "deployments.keep": "1d", "general.debug": True}, OWNER)
    (change,) = await live.reset(["offer.max_hours"], OWNER)
    assert (change.how, change.old, change.new) == ("reset", "5", "1")
    assert live.settings.origin("offer.max_hours").source is Source.FILE
    await live.reset([], OWNER)
    assert (live.settings.deployments.keep, live.settings.general.debug) == ("90d", False)
    assert await live.reset(["deployments.keep"], OWNER) == ()
    with pytest.raises(SettingNotFound):
        await live.reset(["nothing"], OWNER)
    assert (await opened(store, file)).values == {}


async def test_who_refuses_a_change_undoes_it_for_all(store: Store, file: Path) -> None:
    live = await opened(store, file)
    followed: list[tuple[str, ...]] = []

    def refuse(now: Settings) -> None:
        if "cheap" in now.offer.prices:
            raise BadInput('invalid price "cheap"', hint="write it like NTX 0.5")

    live.attend(lambda now: followed.append(now.offer.prices), "offer.prices")
    live.attend(refuse, "offer")
    with pytest.raises(InvalidSetting, match=r'^offer.prices: invalid price "cheap"$') as caught:
        await live.set({"offer.prices": "cheap"}, OWNER)
    assert caught.value.hint == "write it like NTX 0.5"
    assert followed == [("cheap",), ()]
    assert live.settings.offer.prices == ()
    assert (await opened(store, file)).values == {}


async def test_what_cannot_be_kept_is_undone(store: Store, file: Path) -> None:
    live = await opened(store, file)
    followed: list[int] = []
    live.attend(lambda now: followed.append(now.offer.max_hours), "offer.max_hours")
    await store.aclose()
    with pytest.raises(StoreError):
        await live.set({"offer.max_hours": 5}, OWNER)
    assert followed == [5, 1]
    assert live.settings.offer.max_hours == 1


async def test_what_no_longer_fits_is_left_out_and_kept_for_the_release_that_knew_it(store: Store, file: Path) -> None:
    live = await opened(store, file)
    await live.set({"offer.max_hours": 5, "deployments.keep": "1d"}, OWNER)
    values = Repository(store, live_settings, type(live.values["offer.max_hours"]))
    await values.create(live.values["offer.max_hours"], "of.another.release")
    await values.put("deployments.keep", live.values["offer.max_hours"])
    again = await opened(store, file)
    assert list(again.values) == ["offer.max_hours"]
    assert await values.count() == 3


async def test_the_account_tells_who_changed_what_newest_first_and_is_bounded(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await opened(store, file)
    await live.set({"offer.max_hours": 2}, "did:key:one")
    await live.set({"offer.max_hours": 3}, "did:key:two")
    await live.reset([], "did:key:three")
    told = [(change.how, change.old, change.new, change.by) for change in await live.changes()]
    assert told == [
        ("reset", "3", "1", "did:key:three"),
        ("set", "2", "3", "did:key:two"),
        ("set", "1", "2", "did:key:one"),
    ]
    assert [change.by for change in await live.changes(1)] == ["did:key:three"]
    assert [change.at_ns for change in await live.changes()] == sorted(
        (change.at_ns for change in await live.changes()), reverse=True
    )
    account = Repository(store, setting_changes, type((await live.changes(1))[0]))
    (first,) = await live.changes(1)
    await store.run(lambda session: [account.on(session).create(first) for _ in range(MAX_CHANGES)])
    await live.set({"offer.max_hours": 4}, OWNER)
    assert await account.count() == MAX_CHANGES
    assert (await live.changes(1))[0].by == OWNER


# the file ------------------------------------------------------------------------------------------------------------


async def test_a_changed_file_is_taken_up_where_it_may_and_told_where_it_may_not(store: Store, file: Path) -> None:
    live = await opened(store, file)
    taken_up: list[int] = []
    live.attend(lambda now: taken_up.append(now.offer.max_hours), "offer")
    rewrite(file, '{"offer": {"max_hours": 7}, "rest": {"port": 5}}')
    done = await live.reload("SIGHUP")
    assert (done.applied, done.needs_restart) == (("offer.max_hours",), ("rest.port",))
    assert taken_up == [7]
    assert (live.settings.offer.max_hours, live.settings.rest.port) == (7, 9999)
    assert [view.pending for view in live.view("rest.port")] == [True]
    assert [(change.how, change.by) for change in await live.changes()] == [("reloaded", "SIGHUP")]
    rewrite(file, '{"offer": {"max_hours": 7}}')
    assert (await live.reload("SIGHUP")).needs_restart == ()


async def test_what_was_set_at_run_time_stays_over_a_changed_file(store: Store, file: Path) -> None:
    live = await opened(store, file)
    await live.set({"offer.max_hours": 5}, OWNER)
    rewrite(file, '{"offer": {"max_hours": 7}}')
    await live.reload("SIGHUP")
    assert live.settings.offer.max_hours == 5
    await live.reset([], OWNER)
    assert live.settings.offer.max_hours == 7


async def test_a_file_that_cannot_be_used_changes_nothing(store: Store, file: Path) -> None:
    live = await opened(store, file)
    rewrite(file, '{"offer": {"max_hours": "many"}}')
    with pytest.raises(InvalidSetting, match=rf"offer.max_hours in {file}:1"):
        await live.reload("SIGHUP")
    rewrite(file, None)
    with pytest.raises(ConfigError, match="no configuration file"):
        await live.reload("SIGHUP")
    assert live.settings.offer.max_hours == 1


LIVE = sorted(key.name for key in keys().values() if key.is_live and key.shape in ("number", "boolean"))


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from(LIVE), st.integers(1, 9)),
            st.tuples(st.just("reset"), st.sampled_from(LIVE), st.just(0)),
        ),
        max_size=12,
    )
)
def test_after_any_changes_a_restart_finds_what_was_in_force(tmp_path: Path, steps: list[tuple[str, str, int]]) -> None:
    file = tmp_path / "c.json"
    rewrite(file, "{}")
    for old in tmp_path.glob("dms.sqlite*"):
        old.unlink()

    async def live_on() -> None:
        async with await Store.open(tmp_path / "dms.sqlite") as store:
            live = await opened(store, file)
            for how, key, number in steps:
                value = number > 4 if keys()[key].shape == "boolean" else number
                await (live.set({key: value}, OWNER) if how == "set" else live.reset([key], OWNER))
            before = live.settings
        async with await Store.open(tmp_path / "dms.sqlite") as store:
            after = await opened(store, file)
            assert after.settings.as_dict() == before.as_dict()
            assert set(after.values) == {key for key in keys() if before.origin(key).source is Source.LIVE}

    trio.run(live_on)


# by order of the owner -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def acting(world: World, host: Actor) -> AsyncIterator[Actor]:
    """The owner of a node, who can be answered."""
    user = world.user_actor(host)
    async with trio.open_nursery() as nursery:
        await nursery.start(user.run)
        yield user
        nursery.cancel_scope.cancel()


async def test_the_owner_looks_changes_and_resets_and_nobody_else_does(store: Store, file: Path) -> None:
    world, live = World(delay_s=0.0), await opened(store, file)
    async with world.node("alice") as alice, world.node("bob") as bob, acting(world, alice) as user:
        ConfigBehaviours(live).register(alice)
        done = await user.invoke(
            alice.handle, f"{CONFIG}/set", ConfigSetRequest(values={"offer.max_hours": 5}), ConfigReply
        )
        assert done.ok
        assert [(each.key, each.value, each.source, each.live) for each in done.settings] == [
            ("offer.max_hours", 5, "live", True)
        ]
        shown = await user.invoke(alice.handle, f"{CONFIG}/get", ConfigRequest(key="offer"), ConfigReply)
        assert {each.key: each.value for each in shown.settings}["offer.max_hours"] == 5
        everything = await user.invoke(alice.handle, f"{CONFIG}/get", None, ConfigReply)
        assert [each.key for each in everything.settings] == list(keys())
        account = await user.invoke(alice.handle, f"{CONFIG}/history", ConfigHistoryRequest(limit=1), ConfigReply)
        assert [(change.key, change.new) for change in account.changes] == [("offer.max_hours", "5")]
        assert account.changes[0].by == user.security.did.uri
        await user.invoke(alice.handle, f"{CONFIG}/reset", ConfigResetRequest(keys=("offer.max_hours",)), ConfigReply)
        assert live.settings.offer.max_hours == 1
        rewrite(file, '{"offer": {"max_hours": 8}, "p2p": {"fd": 9}}')
        reloaded = await user.invoke(alice.handle, f"{CONFIG}/reload", None, ConfigReply)
        assert ([each.value for each in reloaded.settings], reloaded.needs_restart) == ([8], ("p2p.fd",))
        order = ConfigSetRequest(values={"offer.max_hours": 6})
        with pytest.raises(InvocationTimeout):
            await bob.invoke(alice.handle, f"{CONFIG}/set", order, ConfigReply, timeout_s=0.1)
        assert alice.counters["dropped.not_authorized"] == 1, alice.counters
    assert live.settings.offer.max_hours == 8


@pytest.mark.parametrize(
    ("name", "payload", "error"),
    [
        ("set", {"values": {}}, "give 1 to 100 values by key"),
        ("set", {"values": {f"k{i}": 1 for i in range(101)}}, "give 1 to 100 values by key"),
        ("set", {"values": {"rest.port": 1}}, "rest.port does not change while the node runs"),
        ("set", {"values": {"zzz": 1}}, 'key "zzz" not found'),
        ("set", {"values": 5}, ""),
        ("get", {"key": "zzz"}, 'key "zzz" not found'),
        ("reset", {"keys": ["zzz"]}, 'key "zzz" not found'),
        ("history", {"limit": "all"}, ""),
    ],
)
async def test_bad_requests_are_answered_with_what_is_wrong(
    store: Store, file: Path, name: str, payload: object, error: str
) -> None:
    world, live = World(delay_s=0.0), await opened(store, file)
    async with world.node("alice") as alice, acting(world, alice) as user:
        ConfigBehaviours(live).register(alice)
        reply = await user.invoke(alice.handle, f"{CONFIG}/{name}", payload, ConfigReply)
    assert not reply.ok
    assert reply.error.startswith(error)
    assert reply.error


def test_no_secret_is_told_by_a_view(file: Path) -> None:
    from dms.node.live import _text, shown

    settings = load_settings(file, env={**ENV, "DMS_APM_API_KEY": "s3cret"})
    key = keys()["apm.api_key"]
    assert json.dumps([shown(settings, key), _text(settings, key.name)]).count("s3cret") == 0
    assert _text(settings, "apm.secret_token") == ""
