"""The journal of deployments: what was decided, in order, written before it is done. It is only ever appended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select

from dms.store.database import Session, Store, now_ns
from dms.store.schema import deployment_journal as table
from dms.types import gojson

_LAST = select(func.max(table.c.seq)).where(table.c.ensemble_id == bindparam("ensemble"))
_APPEND = insert(table)
"""Made once: to make them costs as much as to run them."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One step; ``seq`` counts from 1 within its ensemble, ``at_ns`` is nanoseconds since 1970."""

    ensemble_id: str
    seq: int
    kind: str
    payload: Any  # JSON as dicts, lists, text and numbers
    at_ns: int


class DeploymentJournal:
    """Steps of all deployments, on the disk when a call returns."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def append(self, ensemble_id: str, kind: str, payload: object) -> int:
        """Write one step and answer with its ``seq``; ``payload`` is anything with a JSON, wire structures included."""
        return (await self.append_all(ensemble_id, ((kind, payload),)))[-1]

    async def append_all(self, ensemble_id: str, steps: Sequence[tuple[str, object]]) -> tuple[int, ...]:
        """Write several steps in one transaction."""
        return await self._store.run(lambda session: self.append_on(session, ensemble_id, steps))

    async def read(self, ensemble_id: str, *, after: int = 0) -> tuple[JournalEntry, ...]:
        """The steps of one ensemble with a ``seq`` above ``after``, in order."""

        def fetch(session: Session) -> tuple[JournalEntry, ...]:
            rows = session.execute(
                select(table).where(table.c.ensemble_id == ensemble_id, table.c.seq > after).order_by(table.c.seq)
            )
            return tuple(
                JournalEntry(row.ensemble_id, row.seq, row.kind, gojson.parse(row.payload.encode()), row.at)
                for row in rows
            )

        return await self._store.run(fetch)

    async def ensembles(self) -> tuple[str, ...]:
        """The ensembles that have steps, in the order of their first one."""

        def fetch(session: Session) -> tuple[str, ...]:
            sql = select(table.c.ensemble_id).group_by(table.c.ensemble_id).order_by(func.min(table.c.id))
            return tuple(session.execute(sql).scalars())

        return await self._store.run(fetch)

    async def forget(self, ensemble_id: str) -> None:
        """Drop the steps of a deployment whose record is dropped."""
        await self._store.run(lambda session: session.execute(delete(table).where(table.c.ensemble_id == ensemble_id)))

    def append_on(self, session: Session, ensemble_id: str, steps: Sequence[tuple[str, object]]) -> tuple[int, ...]:
        """As :meth:`append_all`, within a transaction that goes on."""
        last = session.execute(_LAST, {"ensemble": ensemble_id}).scalar() or 0
        stamp = now_ns(session)
        rows = [
            {"ensemble_id": ensemble_id, "seq": seq, "kind": kind, "payload": payload, "at": stamp}
            for seq, (kind, payload) in enumerate(steps, last + 1)
        ]
        if rows:
            session.execute(_APPEND, rows)
        return tuple(range(last + 1, last + 1 + len(rows)))
