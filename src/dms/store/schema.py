"""The tables: one per collection of documents, and the journal of deployments.

A document is the canonical JSON of one :class:`~dms.types.gojson.Wire` structure (:mod:`dms.store.collection`). Times are
nanoseconds since 1970 by the wall clock. A change here needs a revision in ``migrations/versions`` and its name in
:data:`HEAD`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, MetaData, String, Table, UniqueConstraint

from dms.store.collection import KEY, document_table

HEAD = "0006"
"""The newest revision of the schema."""

metadata = MetaData()

HISTORY = "history"
"""In ``Table.info``: old versions of one record, which :mod:`dms.store.retention` prunes by age."""


def _documents(name: str, *, is_history: bool = False) -> Table:
    return document_table(name, metadata, **{HISTORY: is_history})


onboarding_config = _documents("onboarding_config", is_history=True)
onboarded_resources = _documents("onboarded_resources", is_history=True)
resource_allocation = _documents("resource_allocation")
resource_commitment = _documents("resource_commitment")
deployments = _documents("deployments")
allocations = _documents("allocations")
ensembles = _documents("ensembles")
reservations = _documents("reservations")
private_networks = _documents("private_networks")
volumes = _documents("volumes")
benchmarks = _documents("benchmarks", is_history=True)
schedules = _documents("schedules")
live_settings = _documents("live_settings")
setting_changes = _documents("setting_changes")

deployment_journal = Table(
    "deployment_journal",
    metadata,
    Column("id", KEY, primary_key=True, autoincrement=True),
    Column("ensemble_id", String(200), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(100), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("ensemble_id", "seq", name="deployment_journal_seq"),
    Index("deployment_journal_kind", "kind"),
    sqlite_autoincrement=True,
)
