"""What a machine knows of the private networks in which it takes part."""

from alembic import op

from dms.store.migrations.collections import create_collection

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLE = "private_networks"


def upgrade() -> None:
    create_collection(TABLE)


def downgrade() -> None:
    op.drop_table(TABLE)
