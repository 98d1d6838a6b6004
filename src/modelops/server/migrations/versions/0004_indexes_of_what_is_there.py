"""indexes of what is there.

Most rows have no value in these columns, and each of their indexes cost every insert a page; others nobody asked for.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SPARSE = [
    ("runs", ["job_id"]),
    ("model_versions", ["run_id"]),
    ("model_versions", ["job_id"]),
    ("model_versions", ["dataset_version_id"]),
    ("model_versions", ["parent_version_id"]),
    ("model_versions", ["logged_model_id"]),
    ("model_versions", ["claimed_run"]),
    ("outbox_events", ["done_at"]),
]
"""Indexes that keep their names."""

_RENAMED = [
    ("runs", "ix_runs_heard", ["status", "heard_at"]),
    ("outbox_events", "ix_outbox_events_stream", ["project_id", "position"]),
]

_DROPPED = [("audit_records", ["tenant_id"]), ("model_versions", ["stage"])]


def upgrade() -> None:
    for table, columns in _DROPPED:
        op.drop_index(_name(table, columns), table)
    for table, old, columns in _RENAMED:
        op.drop_index(old, table)
        _index(table, columns, sparse=True)
    with op.batch_alter_table("outbox_events") as batch:
        batch.drop_constraint("uq_outbox_events_id", type_="unique")
        batch.drop_constraint("uq_outbox_events_position", type_="unique")
    for table, columns in _SPARSE:
        op.drop_index(_name(table, columns), table)
        _index(table, columns, sparse=True)
    _index("outbox_events", ["position"], sparse=True, unique=True)
    waiting = sa.text("done_at IS NULL")
    op.create_index(
        "ix_outbox_events_waiting", "outbox_events", ["number"], sqlite_where=waiting, postgresql_where=waiting
    )
    _keep_audit_records(with_rowid=False)


def downgrade() -> None:
    _keep_audit_records(with_rowid=True)
    op.drop_index("ix_outbox_events_waiting", "outbox_events")
    op.drop_index("uq_outbox_events_position", "outbox_events")
    for table, columns in _SPARSE:
        op.drop_index(_name(table, columns), table)
        _index(table, columns)
    with op.batch_alter_table("outbox_events") as batch:
        batch.create_unique_constraint("uq_outbox_events_position", ["position"])
        batch.create_unique_constraint("uq_outbox_events_id", ["id"])
    for table, old, columns in _RENAMED:
        op.drop_index(_name(table, columns), table)
        op.create_index(old, table, columns)
    for table, columns in _DROPPED:
        _index(table, columns)


def _index(table: str, columns: list[str], *, sparse: bool = False, unique: bool = False) -> None:
    present = sa.text(f'"{columns[-1]}" IS NOT NULL') if sparse else None
    name = _name(table, columns, "uq" if unique else "ix")
    op.create_index(name, table, columns, unique=unique, sqlite_where=present, postgresql_where=present)


def _name(table: str, columns: list[str], kind: str = "ix") -> str:
    return f"{kind}_{table}_{'_'.join(columns)}"


def _keep_audit_records(*, with_rowid: bool) -> None:
    """Make the table of audit records anew, on SQLite, as its primary key's tree or as a table beside it."""
    if op.get_bind().dialect.name == "sqlite":
        kept = {"sqlite_with_rowid": with_rowid}
        with op.batch_alter_table("audit_records", recreate="always", table_kwargs=kept):
            pass
