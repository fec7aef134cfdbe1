"""Alembic's entry: runs the revisions on the connection that it was given, within its transaction."""

from alembic import context

from dms.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
