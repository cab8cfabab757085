"""What alembic loads to run migrations: on the connection that the recorder hands over."""

from __future__ import annotations

from alembic import context

from services.recorder.schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
