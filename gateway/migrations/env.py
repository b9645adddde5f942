"""Alembic's entry: runs the migrations on the connection that `gateway.store` hands over.

Everything happens in one transaction: an upgrade that is cut off leaves the old schema.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
