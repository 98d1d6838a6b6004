"""Runs and metric keys get numbers, and points are clustered by run, key and time; what is there is carried over."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CHILDREN = ("run_parameters", "run_tags", "metric_points", "latest_metrics", "run_artifacts")


def upgrade() -> None:
    for table in (*_CHILDREN, "runs", "experiments"):
        op.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")  # noqa: S608
        op.drop_table(table)
    _create()
    _carry_over(op.get_bind().dialect.name == "sqlite")
    for table in (*_CHILDREN, "runs", "experiments"):
        op.drop_table(f"old_{table}")


def _carry_over(on_sqlite: bool) -> None:
    op.execute(
        "INSERT INTO experiments (id, name, description, tags, changed_at, created_at, created_by, revision, project_id)"
        " SELECT id, name, description, tags, created_at, created_at, created_by, revision, project_id FROM old_experiments"
    )
    op.execute(
        "INSERT INTO runs (id, project_id, experiment_id, name, status, reason, job_id, started_at, ended_at, heard_at,"
        " created_by, revision) SELECT id, project_id, experiment_id, name, status, reason, job_id, started_at, ended_at,"
        " heard_at, created_by, revision FROM old_runs ORDER BY id"
    )
    op.execute("INSERT INTO metric_keys (key) SELECT DISTINCT key FROM old_metric_points ORDER BY key")
    for table in ("metric_points", "latest_metrics"):
        op.execute(
            f"INSERT INTO {table} (run_number, key_number, time_us, step, value, is_nan)"  # noqa: S608
            f" SELECT r.number, k.number, o.time_us, o.step, o.value, o.is_nan FROM old_{table} o"
            " JOIN runs r ON r.id = o.run_id JOIN metric_keys k ON k.key = o.key"
        )
    # A parameter was a JSON text within a JSON column; it is that text alone now.
    value = "coalesce(json_extract(o.value, '$'), 'null')" if on_sqlite else "coalesce(o.value #>> '{}', 'null')"
    number = (
        "CASE WHEN json_valid(o.text) AND json_type(o.text) IN ('integer', 'real') AND abs(CAST(o.text AS REAL)) < 1e300"
        " THEN CAST(o.text AS REAL) END"
        if on_sqlite
        else r"CASE WHEN o.text ~ '^-?[0-9]{1,200}(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$' THEN CAST(o.text AS double precision) END"
    )
    op.execute(
        f"INSERT INTO run_parameters (run_number, key, value, text, number) SELECT r.number, o.key, {value}, o.text,"  # noqa: S608
        f" {number} FROM old_run_parameters o JOIN runs r ON r.id = o.run_id"
    )
    op.execute(
        "INSERT INTO run_tags (run_number, key, value) SELECT r.number, o.key, o.value FROM old_run_tags o"
        " JOIN runs r ON r.id = o.run_id"
    )
    op.execute(
        "INSERT INTO run_artifacts (run_id, path, digest, size, media_type)"
        " SELECT run_id, path, digest, size, media_type FROM old_run_artifacts"
    )


def _create() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column(
            "tags",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("artifact_location", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_experiments_project_id_name")),
    )
    op.create_index(op.f("ix_experiments_project_id"), "experiments", ["project_id"], unique=False)
    op.create_table(
        "latest_metrics",
        sa.Column("run_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_number", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_number", "key_number", name=op.f("pk_latest_metrics")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_latest_metrics_value", "latest_metrics", ["key_number", "value", "run_number"], unique=False)
    op.create_table(
        "metric_keys",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_metric_keys")),
        sa.UniqueConstraint("key", name=op.f("uq_metric_keys_key")),
    )
    op.create_table(
        "metric_points",
        sa.Column("run_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_number", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_number", "key_number", "time_us", "step", "value", "is_nan", name=op.f("pk_metric_points")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_artifacts",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("path", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "path", name=op.f("pk_run_artifacts")),
    )
    op.create_table(
        "run_parameters",
        sa.Column("run_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("run_number", "key", name=op.f("pk_run_parameters")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_tags",
        sa.Column("run_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_number", "key", name=op.f("pk_run_tags")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("experiment_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.String(length=250), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_runs_experiment_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
    )
    op.create_index("ix_runs_experiment_id_started_at", "runs", ["experiment_id", "started_at"], unique=False)
    op.create_index("ix_runs_heard", "runs", ["status", "heard_at"], unique=False)
    op.create_index(op.f("ix_runs_job_id"), "runs", ["job_id"], unique=False)
    op.create_index(op.f("ix_runs_project_id"), "runs", ["project_id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("The numbers of runs and keys cannot be taken back; restore a backup of before.")
