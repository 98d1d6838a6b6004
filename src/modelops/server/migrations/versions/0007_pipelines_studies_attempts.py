"""Pipelines with schedules and triggers, studies with trials, and jobs' attempts and files."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pipeline_beginnings",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("cause_id", sa.String(length=40), nullable=False),
        sa.Column("cause", sa.String(length=300), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column(
            "permissions",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "target",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("overlap", sa.String(length=20), nullable=False),
        sa.Column("moment", sa.DateTime(timezone=True), nullable=False),
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("unfinished", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_beginnings")),
        sa.UniqueConstraint("cause_id", "key", name=op.f("uq_pipeline_beginnings_cause_id_key")),
    )
    with op.batch_alter_table("pipeline_beginnings", schema=None) as batch_op:
        batch_op.create_index("ix_pipeline_beginnings_due", ["state", "begins_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_beginnings_job_id"), ["job_id"], unique=False)
        batch_op.create_index(
            "ix_pipeline_beginnings_open",
            ["cause_id"],
            unique=False,
            sqlite_where=sa.text("unfinished"),
            postgresql_where=sa.text("unfinished"),
        )
        batch_op.create_index(batch_op.f("ix_pipeline_beginnings_project_id"), ["project_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_beginnings_run_id"), ["run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_beginnings_settled_at"), ["settled_at"], unique=False)

    op.create_table(
        "pipeline_cache",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("pipeline", sa.String(length=200), nullable=False),
        sa.Column("step", sa.String(length=100), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column(
            "outputs",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_cache")),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_pipeline_cache_project_id_key")),
    )
    with op.batch_alter_table("pipeline_cache", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipeline_cache_project_id"), ["project_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_cache_used_at"), ["used_at"], unique=False)

    op.create_table(
        "pipeline_runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("pipeline_id", sa.String(length=40), nullable=False),
        sa.Column("pipeline", sa.String(length=200), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "parameters",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "tags",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("cause", sa.String(length=300), nullable=False),
        sa.Column("use_cache", sa.Boolean(), nullable=False),
        sa.Column(
            "permissions",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("ending", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_runs")),
    )
    with op.batch_alter_table("pipeline_runs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_pipeline_runs_open",
            ["id"],
            unique=False,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index(batch_op.f("ix_pipeline_runs_pipeline_id"), ["pipeline_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_runs_project_id"), ["project_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_runs_state"), ["state"], unique=False)

    op.create_table(
        "pipeline_schedules",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("when", sa.String(length=250), nullable=False),
        sa.Column("zone", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column(
            "target",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("catch_up", sa.String(length=20), nullable=False),
        sa.Column("catch_up_most", sa.Integer(), nullable=False),
        sa.Column("grace_s", sa.Double(), nullable=False),
        sa.Column("overlap", sa.String(length=20), nullable=False),
        sa.Column("jitter_s", sa.Double(), nullable=False),
        sa.Column("moment_parameter", sa.String(length=100), nullable=True),
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column(
            "permissions",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("anchor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cursor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_schedules")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_pipeline_schedules_project_id_name")),
    )
    with op.batch_alter_table("pipeline_schedules", schema=None) as batch_op:
        batch_op.create_index(
            "ix_pipeline_schedules_next_at",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text('"next_at" IS NOT NULL'),
            postgresql_where=sa.text('"next_at" IS NOT NULL'),
        )
        batch_op.create_index(batch_op.f("ix_pipeline_schedules_project_id"), ["project_id"], unique=False)

    op.create_table(
        "pipeline_step_logs",
        sa.Column("step_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("step_id", "attempt", "position", name=op.f("pk_pipeline_step_logs")),
    )
    with op.batch_alter_table("pipeline_step_logs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipeline_step_logs_run_id"), ["run_id"], unique=False)

    op.create_table(
        "pipeline_steps",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("step", sa.String(length=100), nullable=False),
        sa.Column("index", sa.Integer(), nullable=True),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("queue", sa.String(length=120), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "outputs",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("cache_key", sa.String(length=80), nullable=True),
        sa.Column("cached_from", sa.String(length=40), nullable=True),
        sa.Column("worker", sa.String(length=60), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("log_characters", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cpu_seconds", sa.Double(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_steps")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_pipeline_steps_run_id_key")),
    )
    with op.batch_alter_table("pipeline_steps", schema=None) as batch_op:
        batch_op.create_index(
            "ix_pipeline_steps_job_id",
            ["job_id"],
            unique=False,
            sqlite_where=sa.text('"job_id" IS NOT NULL'),
            postgresql_where=sa.text('"job_id" IS NOT NULL'),
        )
        batch_op.create_index(
            "ix_pipeline_steps_lease_expires_at",
            ["lease_expires_at"],
            unique=False,
            sqlite_where=sa.text('"lease_expires_at" IS NOT NULL'),
            postgresql_where=sa.text('"lease_expires_at" IS NOT NULL'),
        )
        batch_op.create_index("ix_pipeline_steps_member", ["run_id", "step", "place"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_steps_project_id"), ["project_id"], unique=False)
        batch_op.create_index("ix_pipeline_steps_queue", ["run_id", "state", "queue", "place"], unique=False)
        batch_op.create_index(
            "ix_pipeline_steps_untold",
            ["run_id", "place"],
            unique=False,
            sqlite_where=sa.text("ended_at IS NOT NULL AND NOT told"),
            postgresql_where=sa.text("ended_at IS NOT NULL AND NOT told"),
        )

    op.create_table(
        "pipeline_triggers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column(
            "target",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "events",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=True,
        ),
        sa.Column("hook", sa.Boolean(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column(
            "mapping",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("debounce_s", sa.Double(), nullable=False),
        sa.Column(
            "limit",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=True,
        ),
        sa.Column("overlap", sa.String(length=20), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column(
            "permissions",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.String(length=80), nullable=True),
        sa.Column("sealed_secret", sa.Text(), nullable=True),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refused_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_triggers")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_pipeline_triggers_project_id_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_pipeline_triggers_token_hash")),
    )
    with op.batch_alter_table("pipeline_triggers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipeline_triggers_project_id"), ["project_id"], unique=False)

    op.create_table(
        "pipeline_values",
        sa.Column("owner", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("owner", "digest", name=op.f("pk_pipeline_values")),
    )
    with op.batch_alter_table("pipeline_values", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipeline_values_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_pipeline_values_project_id"), ["project_id"], unique=False)

    op.create_table(
        "pipeline_versions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("pipeline_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column(
            "document",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_versions")),
        sa.UniqueConstraint("pipeline_id", "digest", name=op.f("uq_pipeline_versions_pipeline_id_digest")),
        sa.UniqueConstraint("pipeline_id", "version", name=op.f("uq_pipeline_versions_pipeline_id_version")),
    )
    with op.batch_alter_table("pipeline_versions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipeline_versions_project_id"), ["project_id"], unique=False)

    op.create_table(
        "pipeline_workers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=120), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("sealed_token", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_workers")),
    )
    with op.batch_alter_table("pipeline_workers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipeline_workers_ended_at"), ["ended_at"], unique=False)
        batch_op.create_index(
            "ix_pipeline_workers_open",
            ["run_id"],
            unique=False,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index(batch_op.f("ix_pipeline_workers_project_id"), ["project_id"], unique=False)
        batch_op.create_index("ix_pipeline_workers_run", ["run_id"], unique=False)

    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("latest_version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_pipelines_project_id_name")),
    )
    with op.batch_alter_table("pipelines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pipelines_project_id"), ["project_id"], unique=False)

    op.create_table(
        "studies",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("objectives", sa.Text(), nullable=False),
        sa.Column("space", sa.Text(), nullable=True),
        sa.Column("sampler", sa.Text(), nullable=False),
        sa.Column("pruner", sa.Text(), nullable=False),
        sa.Column("experiment_id", sa.String(length=40), nullable=False),
        sa.Column("max_trials", sa.Integer(), nullable=True),
        sa.Column("max_seconds", sa.Double(), nullable=True),
        sa.Column("target", sa.Double(), nullable=True),
        sa.Column("patience", sa.Integer(), nullable=True),
        sa.Column("max_failures", sa.Integer(), nullable=True),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("lease_s", sa.Double(), nullable=False),
        sa.Column(
            "tags",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("pruned", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("best_value", sa.Double(), nullable=True),
        sa.Column("best_number", sa.Integer(), nullable=True),
        sa.Column("best_at", sa.Integer(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_studies")),
        sa.UniqueConstraint("id", name=op.f("uq_studies_id")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_studies_project_id_name")),
    )
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_studies_project_id"), ["project_id"], unique=False)

    op.create_table(
        "trial_values",
        sa.Column("study_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("study_number", "number", "step", name=op.f("pk_trial_values")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("trial_values", schema=None) as batch_op:
        batch_op.create_index("ix_trial_values_study_number_change", ["study_number", "change"], unique=False)

    op.create_table(
        "trials",
        sa.Column("study_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lapses", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("results", sa.Text(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("holder", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("ask_key", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("study_number", "number", name=op.f("pk_trials")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.create_index(
            "ix_trials_lease_until",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text('"lease_until" IS NOT NULL'),
            postgresql_where=sa.text('"lease_until" IS NOT NULL'),
        )
        batch_op.create_index("ix_trials_study_number_change", ["study_number", "change"], unique=False)
        batch_op.create_index(
            "uq_trials_study_number_ask_key",
            ["study_number", "ask_key"],
            unique=True,
            sqlite_where=sa.text('"ask_key" IS NOT NULL'),
            postgresql_where=sa.text('"ask_key" IS NOT NULL'),
        )

    op.create_table(
        "job_artifacts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_artifacts_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_artifacts")),
        sa.UniqueConstraint("job_id", "role", "name", "step", name=op.f("uq_job_artifacts_job_id_role_name_step")),
    )
    with op.batch_alter_table("job_artifacts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_artifacts_digest"), ["digest"], unique=False)

    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cause", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cpu_seconds", sa.Double(), nullable=True),
        sa.Column("samples", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_attempts_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_attempts")),
    )
    with op.batch_alter_table("job_attempts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_attempts_ended_at"), ["ended_at"], unique=False)

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("data_rows", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("data_columns", sa.Integer(), nullable=True))
        batch_op.add_column(
            sa.Column(
                "inputs",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=False,
                server_default="{}",
            )
        )
        batch_op.add_column(
            sa.Column(
                "retry",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=False,
                server_default="{}",
            )
        )
        batch_op.add_column(sa.Column("environment", sa.String(length=80), nullable=True))
        batch_op.add_column(sa.Column("keep_checkpoints", sa.Integer(), nullable=False, server_default="3"))
        batch_op.add_column(sa.Column("out_of_memory", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("cause", sa.String(length=20), nullable=True))
        batch_op.add_column(
            sa.Column(
                "progress",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=True,
            )
        )
        batch_op.add_column(sa.Column("attempts_before", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.alter_column("dataset_version_id", existing_type=sa.VARCHAR(length=40), nullable=True)
        batch_op.alter_column("dataset", existing_type=sa.VARCHAR(length=250), nullable=True)

    with op.batch_alter_table("outbox_events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("actor", sa.String(length=100), nullable=True))

    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("form", sa.String(length=20), nullable=False, server_default="cloudevents"))


def downgrade() -> None:
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.drop_column("form")

    with op.batch_alter_table("outbox_events", schema=None) as batch_op:
        batch_op.drop_column("actor")

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("dataset", existing_type=sa.VARCHAR(length=250), nullable=False)
        batch_op.alter_column("dataset_version_id", existing_type=sa.VARCHAR(length=40), nullable=False)
        batch_op.drop_column("retry_at")
        batch_op.drop_column("attempts_before")
        batch_op.drop_column("progress")
        batch_op.drop_column("cause")
        batch_op.drop_column("out_of_memory")
        batch_op.drop_column("keep_checkpoints")
        batch_op.drop_column("environment")
        batch_op.drop_column("retry")
        batch_op.drop_column("inputs")
        batch_op.drop_column("data_columns")
        batch_op.drop_column("data_rows")

    with op.batch_alter_table("job_attempts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_attempts_ended_at"))

    op.drop_table("job_attempts")
    with op.batch_alter_table("job_artifacts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_artifacts_digest"))

    op.drop_table("job_artifacts")
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_trials_study_number_ask_key",
            sqlite_where=sa.text('"ask_key" IS NOT NULL'),
            postgresql_where=sa.text('"ask_key" IS NOT NULL'),
        )
        batch_op.drop_index("ix_trials_study_number_change")
        batch_op.drop_index(
            "ix_trials_lease_until",
            sqlite_where=sa.text('"lease_until" IS NOT NULL'),
            postgresql_where=sa.text('"lease_until" IS NOT NULL'),
        )

    op.drop_table("trials")
    with op.batch_alter_table("trial_values", schema=None) as batch_op:
        batch_op.drop_index("ix_trial_values_study_number_change")

    op.drop_table("trial_values")
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_studies_project_id"))

    op.drop_table("studies")
    with op.batch_alter_table("pipelines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipelines_project_id"))

    op.drop_table("pipelines")
    with op.batch_alter_table("pipeline_workers", schema=None) as batch_op:
        batch_op.drop_index("ix_pipeline_workers_run")
        batch_op.drop_index(batch_op.f("ix_pipeline_workers_project_id"))
        batch_op.drop_index(
            "ix_pipeline_workers_open",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_pipeline_workers_ended_at"))

    op.drop_table("pipeline_workers")
    with op.batch_alter_table("pipeline_versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_versions_project_id"))

    op.drop_table("pipeline_versions")
    with op.batch_alter_table("pipeline_values", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_values_project_id"))
        batch_op.drop_index(batch_op.f("ix_pipeline_values_digest"))

    op.drop_table("pipeline_values")
    with op.batch_alter_table("pipeline_triggers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_triggers_project_id"))

    op.drop_table("pipeline_triggers")
    with op.batch_alter_table("pipeline_steps", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_pipeline_steps_untold",
            sqlite_where=sa.text("ended_at IS NOT NULL AND NOT told"),
            postgresql_where=sa.text("ended_at IS NOT NULL AND NOT told"),
        )
        batch_op.drop_index("ix_pipeline_steps_queue")
        batch_op.drop_index(batch_op.f("ix_pipeline_steps_project_id"))
        batch_op.drop_index("ix_pipeline_steps_member")
        batch_op.drop_index(
            "ix_pipeline_steps_lease_expires_at",
            sqlite_where=sa.text('"lease_expires_at" IS NOT NULL'),
            postgresql_where=sa.text('"lease_expires_at" IS NOT NULL'),
        )
        batch_op.drop_index(
            "ix_pipeline_steps_job_id",
            sqlite_where=sa.text('"job_id" IS NOT NULL'),
            postgresql_where=sa.text('"job_id" IS NOT NULL'),
        )

    op.drop_table("pipeline_steps")
    with op.batch_alter_table("pipeline_step_logs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_step_logs_run_id"))

    op.drop_table("pipeline_step_logs")
    with op.batch_alter_table("pipeline_schedules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_schedules_project_id"))
        batch_op.drop_index(
            "ix_pipeline_schedules_next_at",
            sqlite_where=sa.text('"next_at" IS NOT NULL'),
            postgresql_where=sa.text('"next_at" IS NOT NULL'),
        )

    op.drop_table("pipeline_schedules")
    with op.batch_alter_table("pipeline_runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_runs_state"))
        batch_op.drop_index(batch_op.f("ix_pipeline_runs_project_id"))
        batch_op.drop_index(batch_op.f("ix_pipeline_runs_pipeline_id"))
        batch_op.drop_index(
            "ix_pipeline_runs_open",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    op.drop_table("pipeline_runs")
    with op.batch_alter_table("pipeline_cache", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_cache_used_at"))
        batch_op.drop_index(batch_op.f("ix_pipeline_cache_project_id"))

    op.drop_table("pipeline_cache")
    with op.batch_alter_table("pipeline_beginnings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pipeline_beginnings_settled_at"))
        batch_op.drop_index(batch_op.f("ix_pipeline_beginnings_run_id"))
        batch_op.drop_index(batch_op.f("ix_pipeline_beginnings_project_id"))
        batch_op.drop_index(
            "ix_pipeline_beginnings_open", sqlite_where=sa.text("unfinished"), postgresql_where=sa.text("unfinished")
        )
        batch_op.drop_index(batch_op.f("ix_pipeline_beginnings_job_id"))
        batch_op.drop_index("ix_pipeline_beginnings_due")

    op.drop_table("pipeline_beginnings")
