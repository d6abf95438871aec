"""Alembic's entry: runs inside the connection that upgrade() opened."""

from alembic import context

from webapp import models

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
