"""The volumes of this machine."""

from alembic import op

from dms.store.migrations.collections import create_collection

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_collection("volumes")


def downgrade() -> None:
    op.drop_table("volumes")
