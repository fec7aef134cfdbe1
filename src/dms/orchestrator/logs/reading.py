"""The logs of one deployment's allocations: on their machines while they run, on this node when they have ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from dms.orchestrator import effects, messages
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.errors import NothingToRead
from dms.orchestrator.lifecycle.state import DeploymentState, Left
from dms.orchestrator.logs.finding import LogShelf
from dms.types.errors import DMSError

KEEP_TIMEOUT_S = 10.0


class LogReader:
    """Reads them wherever they are, and copies them to this node."""

    def __init__(self, shelf: LogShelf, context: Callable[[], Context], state: Callable[[], DeploymentState]) -> None:
        self._shelf, self._context, self._state = shelf, context, state
        self._fetching: dict[str, trio.Lock] = {}

    async def read(
        self, key: str, stream: str, offset: int, max_bytes: int, *, since_ms: int = 0
    ) -> messages.AllocationLogsReply:
        """A piece of a log, from this node if it was copied already, else from the provider.

        :raises DMSError: the provider cannot be reached, or has no such log.
        """
        state, context = self._state(), self._context()
        record = state.allocations[key]
        if self._shelf.is_complete(context.ensemble, record):
            return await self._shelf.read(context.ensemble, key, stream, offset, max_bytes)
        if record.handle is None:
            return messages.AllocationLogsReply(offset=max(0, offset), next_offset=max(0, offset))
        return await effects.read_log(context, state, key, stream, offset, max_bytes, since_ms)

    async def fetch(self, key: str) -> Path:
        """Copy the logs as they are now to this node; the folder.

        :raises NothingToRead: it was not allocated yet.
        :raises DMSError: the provider cannot be reached.
        """
        context = self._context()
        folder = self._shelf.folder(context.ensemble, key)
        async with self._fetching.setdefault(key, trio.Lock()):
            state = self._state()
            record = state.allocations.get(key)
            if record is not None and self._shelf.is_complete(context.ensemble, record):
                return folder
            if record is None or record.handle is None:
                raise NothingToRead(f"there are no logs of {key} yet: the deployment is {state.phase.value}")
            await effects.fetch_logs(context, state, key, folder)
            if record.is_over:
                await self._shelf.mark_complete(context.ensemble, record)
        return folder

    async def keep(self, left: Left) -> str:
        """Copy the end of the logs of what an update took away, before its machine forgets them; what is in the way, if
        anything is: it must end all the same.
        """
        context = self._context()
        shelf, version = self._shelf.of_version(context.ensemble, left.version)
        try:
            with trio.fail_after(KEEP_TIMEOUT_S):
                await effects.keep_logs(context, left, shelf.folder(version, left.key))
                await self._shelf.forget_versions(context.ensemble)
        except (DMSError, OSError, trio.TooSlowError) as exc:
            return str(exc) or "its machine does not answer"
        return ""

    async def fetch_quietly(self, key: str) -> None:
        """The same; what is in the way is noted."""
        try:
            await self.fetch(key)
        except (DMSError, OSError) as exc:
            await self._context().note("logs_not_fetched", {"allocation": key, "reason": str(exc)})
