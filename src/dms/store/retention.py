"""What grows with time and is not needed for ever, and how long it is kept.

Most tables hold what is there now, and shrink with it; deployments that have ended go, with all that is told of them, after
``deployments.keep``. What is left is bounded here: records that were hidden, old versions of single records, and the steps of
deployments that go on for months.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, delete, func, select

from dms.config.schema import Database
from dms.store.database import Session, Store, now_ns
from dms.store.schema import HISTORY, deployment_journal, metadata
from dms.types.units import parse_duration_ns

BATCH = 500
"""Rows that one transaction removes, so that others need not wait for long."""
STEPS_KEPT = 100
"""The last ones of each deployment, however old; and the first one, which tells of its submission."""
NS_PER_S = 10**9
FOR_EVER_S = 0.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each kind is kept, in seconds; 0: for ever."""

    hidden_s: float = FOR_EVER_S
    """Records that were hidden, from then on."""
    history_s: float = FOR_EVER_S
    """Versions of single records, the newest one excepted, from their writing."""
    steps_s: float = FOR_EVER_S
    """Steps of deployments that go on, from their writing; see :data:`STEPS_KEPT`."""


def retention_of(database: Database) -> Retention:
    """What the settings ``database.keep_*`` say."""
    return Retention(
        hidden_s=_seconds(database.keep_hidden),
        history_s=_seconds(database.keep_history),
        steps_s=_seconds(database.keep_events),
    )


async def prune(store: Store, retention: Retention) -> dict[str, int]:
    """Remove what has been kept long enough, a batch per transaction; how many rows of each table.

    :raises StoreError: the database failed.
    """
    removed: dict[str, int] = {}
    for table, condition, age_s in _rules(retention):
        if age_s <= 0:
            continue
        while count := await store.run(_batch(table, condition, age_s)):
            removed[table.name] = removed.get(table.name, 0) + count
            if count < BATCH:
                break
    return removed


def _seconds(duration: str) -> float:
    return parse_duration_ns(duration, what="duration") / NS_PER_S


_Condition = Callable[[int], ColumnElement[bool]]
"""Which rows, given the moment (UNIX nanoseconds) before which they are too old."""


def _rules(retention: Retention) -> list[tuple[Table, _Condition, float]]:
    rules: list[tuple[Table, _Condition, float]] = []
    for table in metadata.sorted_tables:
        if "deleted_at" in table.c:
            rules.append((table, _hidden(table), retention.hidden_s))
        if table.info.get(HISTORY):
            rules.append((table, _superseded(table), retention.history_s))
    return [*rules, (deployment_journal, _bygone, retention.steps_s)]


def _batch(table: Table, condition: _Condition, age_s: float) -> Callable[[Session], int]:
    def remove(session: Session) -> int:
        key = table.primary_key.columns.values()[0]
        chosen = select(key).where(condition(now_ns(session) - int(age_s * NS_PER_S))).order_by(key).limit(BATCH)
        count: int = session.execute(delete(table).where(key.in_(chosen))).rowcount
        return count

    return remove


def _hidden(table: Table) -> _Condition:
    return lambda before_ns: (table.c.deleted_at > 0) & (table.c.deleted_at < before_ns)


def _superseded(table: Table) -> _Condition:
    newest = select(func.max(table.c.seq)).scalar_subquery()
    return lambda before_ns: (table.c.created_at < before_ns) & (table.c.seq < newest)


def _bygone(before_ns: int) -> ColumnElement[bool]:
    other = deployment_journal.alias()
    table = deployment_journal
    last = select(func.max(other.c.seq)).where(other.c.ensemble_id == table.c.ensemble_id).scalar_subquery()
    return (table.c.at < before_ns) & (table.c.seq > 1) & (table.c.seq <= last - STEPS_KEPT)
