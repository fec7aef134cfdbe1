"""Between a plugin and the node: whatever is raised in there comes out as an error that names it.

The node's own executors and providers raise errors of ours for all that can go wrong, and a defect ends what called them.
Of a plugin nothing is expected.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import trio

from dms.executor.errors import ExecutorError, ExecutorUnavailable
from dms.executor.protocol import Executor
from dms.observe import get_logger
from dms.storage.errors import StorageError
from dms.storage.transfer import Provider
from dms.types.errors import DMSError

log = get_logger(__name__)


def guarded_executor(executor: Executor, name: str, problem: Callable[[], str | None] = lambda: None) -> Executor:
    """The same executor, of which every method raises errors of ours alone; its type is ``name``. Once ``problem`` gives a
    reason it is asked nothing any more."""
    return cast("Executor", _Guarded(executor, name, ExecutorError, problem))


def guarded_provider(provider: Provider, name: str) -> Provider:
    """The same provider, likewise."""
    return cast("Provider", _Guarded(provider, name, StorageError, lambda: None))


class _Guarded:
    """Stands before an object: its methods, and what they return or raise, with defects as errors of one class."""

    def __init__(self, inner: object, name: str, error: type[DMSError], problem: Callable[[], str | None]) -> None:
        self._inner, self._error, self._problem = inner, error, problem
        self.type = name

    def __getattr__(self, name: str) -> Any:  # Any: of whatever type the plugin's attribute is
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            member = getattr(self._inner, name)
        except AttributeError:
            raise self._error(f"the plugin {self.type} has no {name}") from None
        if not callable(member):
            return member
        if inspect.isasyncgenfunction(inspect.unwrap(member)):
            return functools.partial(self._chunks, member)
        return self._translating(member)

    def _translating(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: object, **kwargs: object) -> Any:  # Any: whatever the plugin's method returns
            if reason := self._problem():
                raise ExecutorUnavailable(f"the plugin {self.type} has failed: {reason}")
            try:
                result = method(*args, **kwargs)
            except Exception as exc:
                raise self._ours(exc, method.__name__) from exc
            return self._awaited(result, method.__name__) if inspect.isawaitable(result) else result

        return call

    async def _awaited(self, result: Any, name: str) -> Any:  # Any: as above
        try:
            return await result
        except Exception as exc:
            raise self._ours(exc, name) from exc

    async def _chunks(self, method: Callable[..., AsyncIterator[bytes]], *args: object) -> AsyncIterator[bytes]:
        try:
            async for chunk in method(*args):
                yield chunk
        except Exception as exc:
            raise self._ours(exc, method.__name__) from exc

    def _ours(self, exc: Exception, what: str) -> Exception:
        """Errors of ours, and cancellation in whatever wrapping, go through as they are."""
        if isinstance(exc, DMSError | trio.TooSlowError):
            return exc
        if isinstance(exc, ExceptionGroup) and all(isinstance(each, DMSError) for each in exc.exceptions):
            return exc.exceptions[0]
        log.error("plugin_failed", plugin=self.type, method=what, exc_info=exc)
        return self._error(f"the plugin {self.type} failed in {what}: {type(exc).__name__}: {str(exc)[:200]}")
