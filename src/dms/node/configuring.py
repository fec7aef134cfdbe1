"""``/dms/node/config/*``: the owner looks at the settings of the running node and changes those that may change. Ours."""

from __future__ import annotations

from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.node.config_payloads import (
    CONFIG,
    MAX_CHANGES,
    MAX_KEYS,
    ConfigHistoryRequest,
    ConfigReply,
    ConfigRequest,
    ConfigResetRequest,
    ConfigSetRequest,
    SettingChange,
    SettingInfo,
)
from dms.node.live import LiveSettings, SettingView
from dms.types.errors import BadInput, DMSError


class ConfigBehaviours:
    """What a node answers about its settings. Each of them may be asked twice: setting a value again changes nothing."""

    def __init__(self, live: LiveSettings) -> None:
        self._live = live

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        handlers: tuple[tuple[str, Any, Any], ...] = (
            ("get", self._get, ConfigRequest | None),
            ("set", self._set, ConfigSetRequest),
            ("reset", self._reset, ConfigResetRequest | None),
            ("reload", self._reload, None),
            ("history", self._history, ConfigHistoryRequest | None),
        )
        for name, handler, payload in handlers:
            actor.on(f"{CONFIG}/{name}", handler, payload=payload, error_reply=lambda error: ConfigReply(error=error))

    async def _get(self, message: Message[ConfigRequest | None]) -> ConfigReply:
        try:
            found = self._live.view(message.payload.key if message.payload is not None else "")
        except DMSError as exc:
            return _refused(exc)
        return ConfigReply(ok=True, settings=tuple(_info(each) for each in found))

    async def _set(self, message: Message[ConfigSetRequest]) -> ConfigReply:
        values = message.payload.values
        try:
            if not 0 < len(values) <= MAX_KEYS:
                raise BadInput(f"give 1 to {MAX_KEYS} values by key")
            return self._changed(await self._live.set(values, message.sender.did.uri))
        except DMSError as exc:
            return _refused(exc)

    async def _reset(self, message: Message[ConfigResetRequest | None]) -> ConfigReply:
        chosen = message.payload.keys if message.payload is not None else ()
        try:
            return self._changed(await self._live.reset(chosen[:MAX_KEYS], message.sender.did.uri))
        except DMSError as exc:
            return _refused(exc)

    async def _reload(self, message: Message[None]) -> ConfigReply:
        try:
            done = await self._live.reload(message.sender.did.uri)
        except DMSError as exc:
            return _refused(exc)
        taken_up = tuple(_info(each) for key in done.applied for each in self._live.view(key))
        return ConfigReply(ok=True, settings=taken_up, needs_restart=done.needs_restart)

    async def _history(self, message: Message[ConfigHistoryRequest | None]) -> ConfigReply:
        limit = message.payload.limit if message.payload is not None else 0
        return ConfigReply(ok=True, changes=await self._live.changes(min(max(1, limit or MAX_CHANGES), MAX_CHANGES)))

    def _changed(self, changes: tuple[SettingChange, ...]) -> ConfigReply:
        now = tuple(_info(each) for change in changes for each in self._live.view(change.key))
        return ConfigReply(ok=True, settings=now, changes=changes)


def _info(view: SettingView) -> SettingInfo:
    return SettingInfo(
        key=view.key.name,
        value=view.value,
        source=view.origin.source.value,
        place=view.origin.place,
        live=view.key.is_live,
        pending=view.pending,
    )


def _refused(error: DMSError) -> ConfigReply:
    return ConfigReply(error=error.message, hint=error.hint)
