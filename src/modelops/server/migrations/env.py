"""Alembic's environment: runs on the connection it is given."""

from alembic import context

from modelops.kernel.database import Base
from modelops.kernel.manifest import discover

discover()  # every domain's manifest imports its tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
