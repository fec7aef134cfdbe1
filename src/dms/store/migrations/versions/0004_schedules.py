"""Ensembles that are deployed at times."""

from alembic import op

from dms.store.migrations.collections import create_collection

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_collection("schedules")


def downgrade() -> None:
    op.drop_table("schedules")
