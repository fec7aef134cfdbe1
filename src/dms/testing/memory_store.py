"""Databases in memory that are cheap to make by the thousand: they share what is compiled for them, and the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from sqlalchemy import Dialect

from dms.store import Store
from dms.store.sqlite import image_of, open_engine

_compiled: dict[Any, Any] = {}  # what SQLAlchemy keeps in it is its own
_images: list[bytes] = []
"""One that is empty, with all tables."""
_dialects: list[Dialect] = []
"""That of the first one: what is compiled is kept by dialect, and there is one dialect for each engine otherwise."""


async def open_memory_store(now: Callable[[], float]) -> Store:
    """A store in memory with the newest schema; ``now`` is its wall clock in seconds since 1970."""
    await trio.lowlevel.checkpoint()
    if not _dialects:
        first = open_engine(None)
        _dialects.append(first.dialect)
        _images.append(image_of(first))
        first.dispose()
    engine = open_engine(None, image=_images[0])
    engine.dialect = _dialects[0]
    return Store(engine.execution_options(compiled_cache=_compiled), None, None, now)
