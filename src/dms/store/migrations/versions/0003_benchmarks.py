"""What this machine measured of itself."""

from alembic import op

from dms.store.migrations.collections import create_collection

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_collection("benchmarks")


def downgrade() -> None:
    op.drop_table("benchmarks")
