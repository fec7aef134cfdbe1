"""The first tables."""

import sqlalchemy as sa
from alembic import op

from dms.store.migrations.collections import create_collection, key_type

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

COLLECTIONS = (
    "onboarding_config",
    "onboarded_resources",
    "resource_allocation",
    "resource_commitment",
    "deployments",
    "allocations",
    "ensembles",
    "reservations",
)


def upgrade() -> None:
    for name in COLLECTIONS:
        create_collection(name)
    op.create_table(
        "deployment_journal",
        sa.Column("id", key_type(), primary_key=True, autoincrement=True),
        sa.Column("ensemble_id", sa.String(200), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("ensemble_id", "seq", name="deployment_journal_seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("deployment_journal_kind", "deployment_journal", ["kind"])


def downgrade() -> None:
    op.drop_table("deployment_journal")
    for name in reversed(COLLECTIONS):
        op.drop_table(name)
