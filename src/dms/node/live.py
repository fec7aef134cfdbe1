"""Settings that change while the node runs: by order of its owner, or because the file was changed.

What is set at run time lies over the file and under environment and flags (:func:`dms.config.load.with_live`), is kept in the
database, and is told in an account of who changed what. A change is taken up by those who attend to its keys, or by
nobody: whoever refuses it undoes it for all.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from dms.config import Settings
from dms.config.errors import FixedSetting, InvalidSetting, NotLive
from dms.config.keys import Key, keys, known, value_from_text
from dms.config.load import differences, load_again, with_keys_of, with_live
from dms.config.origin import Origin
from dms.config.schema import HIDDEN
from dms.node.config_payloads import MAX_CHANGES, SettingChange
from dms.observe import get_logger
from dms.store import Query, Repository, Session, Store
from dms.store.schema import live_settings, setting_changes
from dms.types import gojson
from dms.types.errors import DMSError
from dms.types.gojson import Wire

MAX_VALUE_CHARS = 16_384
SET, RESET, RELOADED = "set", "reset", "reloaded"

TakeUp = Callable[[Settings], None]
"""Makes a running part follow the settings. It is quick, and what it raises undoes the change."""

log = get_logger(__name__)


class LiveValue(Wire):
    """A value that was set at run time, by whom and when (UNIX nanoseconds)."""

    value: Any  # JSON
    by: str = ""
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class SettingView:
    """A setting as it is in force. ``pending``: the file says something else, which holds after a restart."""

    key: Key
    value: Any  # JSON; of secrets hidden
    origin: Origin
    pending: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the sources again: keys that hold now, and keys that need a restart."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


class LiveSettings:
    """The settings of a running node; make one with :meth:`open`."""

    def __init__(
        self, store: Store, settings: Settings, live: Mapping[str, LiveValue], clock_ns: Callable[[], int]
    ) -> None:
        self._store = store
        self._stored = Repository(store, live_settings, LiveValue)
        self._changes = Repository(store, setting_changes, SettingChange)
        self._clock_ns = clock_ns
        self._base = settings
        self.values: Mapping[str, LiveValue] = dict(live)
        """What was set at run time, by key."""
        self._attending: list[tuple[frozenset[str], TakeUp]] = []
        self._one_at_a_time = trio.Lock()
        self.settings = with_live(settings, {key: each.value for key, each in live.items()})
        """What is in force."""
        self.told: Callable[[list[str], str], object] = lambda _keys, _by: None
        """Hears of keys that were changed, and by whom, once that is kept."""
        self.needs_restart: tuple[str, ...] = ()
        """Keys that were changed in the file since the start and hold only after the next one."""

    @classmethod
    async def open(cls, store: Store, settings: Settings, clock_ns: Callable[[], int]) -> LiveSettings:
        """With what was set in earlier lives. What does not fit any more is told and left out, and stays in the database."""
        live: dict[str, LiveValue] = {}
        for record in await Repository(store, live_settings, LiveValue).find_all():
            try:
                _live_key(record.id)
                with_live(settings, {key: each.value for key, each in live.items()} | {record.id: record.value.value})
            except DMSError as exc:
                log.warning("live_setting_unusable", key=record.id, reason=exc.message)
                continue
            live[record.id] = record.value
            if settings.origin(record.id).is_fixed:
                log.warning("live_setting_overridden", key=record.id, origin=str(settings.origin(record.id)))
        return cls(store, settings, live, clock_ns)

    # who follows -----------------------------------------------------------------------------------------------------

    def attend(self, take_up: TakeUp, *names: str) -> None:
        """Have ``take_up`` called whenever one of these keys, or of the keys in these sections, has another value."""
        chosen = frozenset(key for key in keys() if any(key == name or key.startswith(f"{name}.") for name in names))
        self._attending.append((chosen, take_up))

    @property
    def unattended(self) -> tuple[str, ...]:
        """Keys that are declared live and that nobody attends to: a defect."""
        attended = frozenset[str]().union(*(chosen for chosen, _ in self._attending))
        return tuple(key.name for key in keys().values() if key.is_live and key.name not in attended)

    # changes ---------------------------------------------------------------------------------------------------------

    async def set(self, values: Mapping[str, Any], by: str) -> tuple[SettingChange, ...]:
        """Change keys, all or none; in force and on the disk when this returns.

        :param values: JSON by key; a text stands for what it would mean in an environment variable.
        :param by: who orders it, a DID.
        :raises DMSError: a key is not live or is fixed from outside, a value does not fit, or it cannot be kept.
        """
        wanted = {(key := self._changeable(name)).name: _value(key, value) for name, value in values.items()}
        stamp = self._clock_ns()
        made = {key: LiveValue(value=value, by=by, at_ns=stamp) for key, value in wanted.items()}
        async with self._one_at_a_time:
            return await self._change(self._base, {**self.values, **made}, SET, by, tuple(made))

    async def reset(self, names: Iterable[str], by: str) -> tuple[SettingChange, ...]:
        """Forget what was set at run time of these keys, or of all: file and defaults hold again.

        :raises DMSError: no such key, or it cannot be kept.
        """
        chosen = {known(name).name for name in names}
        async with self._one_at_a_time:
            gone = tuple(key for key in self.values if not chosen or key in chosen)
            left = {key: each for key, each in self.values.items() if key not in gone}
            return await self._change(self._base, left, RESET, by, gone)

    async def reload(self, by: str) -> Reloaded:
        """Read file, environment and flags again, and take up what may change at run time.

        :raises DMSError: they cannot be used; everything stays as it was.
        """
        async with self._one_at_a_time:
            fresh = await trio.to_thread.run_sync(load_again, self._base)
            changed = differences(self._base, fresh)
            live = tuple(key for key in changed if keys()[key].is_live)
            base = with_keys_of(self._base, fresh, live)
            await self._change(base, self.values, RELOADED, by, ())
            self.needs_restart = tuple(key for key in changed if key not in live)
            return Reloaded(live, self.needs_restart)

    async def reload_on_signal(self) -> None:
        """Reload at each SIGHUP, until cancelled; when it tells that the terminal is gone, end as at SIGTERM."""
        if threading.current_thread() is not threading.main_thread():
            return  # signals belong to whoever embeds us
        had_terminal = os.isatty(0)
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                if had_terminal and not os.isatty(0):
                    signal.raise_signal(signal.SIGTERM)
                    continue
                try:
                    done = await self.reload("SIGHUP")
                except DMSError as exc:
                    log.error("settings_not_reloaded", reason=exc.message)
                    continue
                log.info("settings_reloaded", changed=done.applied)
                if done.needs_restart:
                    log.warning("settings_need_restart", settings=done.needs_restart)

    # what there is ---------------------------------------------------------------------------------------------------

    def view(self, name: str = "") -> tuple[SettingView, ...]:
        """The settings in force: one, those of a section, or all.

        :raises SettingNotFound: there is none of that name.
        """
        wanted = name.lower()
        chosen = [
            key for key in keys().values() if not wanted or key.name == wanted or key.name.startswith(f"{wanted}.")
        ]
        if not chosen:
            known(name)
        return tuple(
            SettingView(key, shown(self.settings, key), self.settings.origin(key.name), key.name in self.needs_restart)
            for key in chosen
        )

    async def changes(self, limit: int = MAX_CHANGES) -> tuple[SettingChange, ...]:
        """The account, newest first."""
        found = await self._changes.find_all(Query(sort_by="-at_ns", limit=limit))
        return tuple(record.value for record in found)

    # -----------------------------------------------------------------------------------------------------------------

    def _changeable(self, name: str) -> Key:
        key = _live_key(name)
        origin = self._base.origin(key.name)
        if origin.is_fixed:
            raise FixedSetting(f"{key.name} is fixed{origin.clause}", hint="start the node without it")
        return key

    async def _change(
        self, base: Settings, live: Mapping[str, LiveValue], how: str, by: str, touched: tuple[str, ...]
    ) -> tuple[SettingChange, ...]:
        """Take up, then keep; what fails leaves everything as it was."""
        old, new = self.settings, with_live(base, {key: each.value for key, each in live.items()})
        names = dict.fromkeys((*touched, *differences(old, new)))
        stamp = self._clock_ns()
        changes = tuple(
            SettingChange(key=key, how=how, old=_text(old, key), new=_text(new, key), by=by, at_ns=stamp)
            for key in names
        )
        self._take_up(old, new)
        try:
            if changes:
                await self._store.run(lambda session: self._keep(session, live, touched, changes))
        except BaseException:
            self._take_up(new, old)
            raise
        self.settings, self._base, self.values = new, base, live
        if changes:
            self.told([change.key for change in changes], by)
        for change in changes:
            log.info("setting_changed", setting=change.key, how=how, old=change.old, new=change.new, by=by)
        return changes

    def _keep(
        self,
        session: Session,
        live: Mapping[str, LiveValue],
        touched: tuple[str, ...],
        changes: tuple[SettingChange, ...],
    ) -> None:
        values, account = self._stored.on(session), self._changes.on(session)
        for key in touched:
            if key in live:
                values.put(key, live[key])
            else:
                values.delete(key)
        for change in changes:
            account.create(change)
        for old in account.find_all(Query(sort_by="-at_ns", offset=MAX_CHANGES)):
            account.delete(old.id)

    def _take_up(self, old: Settings, new: Settings) -> None:
        changed = frozenset(differences(old, new))
        done: list[TakeUp] = []
        try:
            for chosen, take_up in self._attending:
                if chosen & changed:
                    done.append(take_up)
                    take_up(new)
        except DMSError as exc:
            for take_up in done:
                take_up(old)
            named = ", ".join(sorted(key for key in changed if keys()[key].is_live))
            raise InvalidSetting(f"{named}: {exc.message}", hint=exc.hint) from None


def shown(settings: Settings, key: Key) -> Any:  # JSON
    """A value for people; that of a secret is hidden."""
    value = settings.get(key.name)
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return value if isinstance(value, bool | int) else str(value)


def _live_key(name: str) -> Key:
    key = known(name)
    if not key.is_live:
        raise NotLive(f"{key.name} does not change while the node runs")
    return key


def _value(key: Key, value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > MAX_VALUE_CHARS:
            raise InvalidSetting(f"{key.name}: longer than {MAX_VALUE_CHARS} characters")
        return value_from_text(key.name, value)
    if len(gojson.encode(value)) > MAX_VALUE_CHARS:
        raise InvalidSetting(f"{key.name}: longer than {MAX_VALUE_CHARS} characters")
    return value


def _text(settings: Settings, key: str) -> str:
    if keys()[key].is_secret:
        return HIDDEN if settings.value(key) else ""
    return gojson.encode(shown(settings, keys()[key])).decode()
