"""Settings that were changed while a node ran, and the account of such changes."""

from alembic import op

from dms.store.migrations.collections import create_collection

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("live_settings", "setting_changes")


def upgrade() -> None:
    for name in TABLES:
        create_collection(name)


def downgrade() -> None:
    for name in TABLES:
        op.drop_table(name)
