"""Databases in memory that are cheap to make by the thousand: they share what is compiled for them."""

# ruff: noqa: SLF001  the engine of a store is its own

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect

from dms.store import Store

_compiled: dict[Any, Any] = {}  # what SQLAlchemy keeps in it is its own
_dialects: list[Dialect] = []
"""That of the first one: what is compiled is kept by dialect, and there is one dialect for each engine otherwise."""


async def open_memory_store(now: Callable[[], float]) -> Store:
    """A store in memory with the newest schema; ``now`` is its wall clock in seconds since 1970."""
    store = await Store.open(None, now=now)
    if not _dialects:
        _dialects.append(store._engine.dialect)
    store._engine.dialect = _dialects[0]
    store._engine = store._engine.execution_options(compiled_cache=_compiled)
    return store
