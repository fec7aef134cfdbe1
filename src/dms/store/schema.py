"""The tables: one per collection of documents, and the journal of deployments.

A document is the canonical JSON of one :class:`~dms.types.gojson.Wire` structure. ``seq`` keeps the order of writing,
which clocks do not. Times are nanoseconds since 1970 by the wall clock. A change here needs a revision in
``migrations/versions`` and its name in :data:`HEAD`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, MetaData, String, Table, UniqueConstraint

HEAD = "0004"
"""The newest revision of the schema."""

metadata = MetaData()

_KEY = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite


def _documents(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("seq", _KEY, primary_key=True, autoincrement=True),
        Column("id", String(200), nullable=False, unique=True),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("deleted_at", BigInteger, nullable=False, default=0),
        Column("data", JSON, nullable=False),
        sqlite_autoincrement=True,
    )


onboarding_config = _documents("onboarding_config")
onboarded_resources = _documents("onboarded_resources")
resource_allocation = _documents("resource_allocation")
resource_commitment = _documents("resource_commitment")
deployments = _documents("deployments")
allocations = _documents("allocations")
ensembles = _documents("ensembles")
reservations = _documents("reservations")
volumes = _documents("volumes")
benchmarks = _documents("benchmarks")
schedules = _documents("schedules")

deployment_journal = Table(
    "deployment_journal",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=True),
    Column("ensemble_id", String(200), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(100), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("ensemble_id", "seq", name="deployment_journal_seq"),
    Index("deployment_journal_kind", "kind"),
    sqlite_autoincrement=True,
)
