"""``/dms/node/logger/config``: levels and destinations of the log, changed while the node runs (``spec/platform.md`` 5.6).

A change is one of settings: it is kept, accounted for, and ``nunet config reset`` takes it back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.node.logger_payloads import LOGGER_CONFIG, LoggerConfig, LoggerReply
from dms.observe import catalogue
from dms.types.errors import BadInput, DMSError

KEYS: Final[Mapping[str, str]] = {
    "level": "observability.logging.level",
    "url": "observability.elastic.url",
    "interval": "observability.elastic.flush_interval",
    "elastic_enabled": "observability.elastic.enabled",
    "api_key": "observability.elastic.api_key",
    "apm_url": "apm.server_url",
}
"""The setting that each member of a request stands for."""


Change = Callable[[Mapping[str, Any], str], Awaitable[tuple[str, ...]]]
"""Sets these settings in the name of a DID; which have another value now.

:raises DMSError: it cannot be done, and nothing was.
"""


class LoggerBehaviours:
    """Answers through ``change``."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        self._events = actor.events
        actor.on(
            LOGGER_CONFIG, self._configure, payload=LoggerConfig, error_reply=lambda error: LoggerReply(error=error)
        )

    async def _configure(self, message: Message[LoggerConfig]) -> LoggerReply:
        request, by = message.payload, str(message.sender.did)
        values = {key: getattr(request, name) for name, key in KEYS.items() if getattr(request, name) not in (None, "")}
        try:
            if not values:
                raise BadInput("nothing was asked for", hint=f"give one of {', '.join(KEYS)}")
            changed = await self._change(values, by)
        except DMSError as exc:
            return LoggerReply(error=exc.message, hint=exc.hint)
        if changed:
            self._events.emit(catalogue.LOGGING_CHANGED, changed=list(changed), by=by)
        return LoggerReply(ok=True, changed=changed)
