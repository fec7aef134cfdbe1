"""The form that a collection of documents had from the first revision on; revisions must go on finding it as it is here.

A revision that changes the form says so by itself: what is here is history, and :mod:`dms.store.schema` the present.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def key_type() -> sa.types.TypeEngine[int]:
    """A number that counts up by itself: in SQLite only INTEGER does."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def create_collection(name: str) -> None:
    """Make the table of one collection."""
    op.create_table(
        name,
        sa.Column("seq", key_type(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(200), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
