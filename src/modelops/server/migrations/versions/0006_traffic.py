"""Variants, rollouts, autoscaling, prediction logs, and versions made of others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prediction_logs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model_version_id", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prediction_logs")),
        sa.UniqueConstraint(
            "deployment_id", "source", "sequence", name=op.f("uq_prediction_logs_deployment_id_source_sequence")
        ),
    )
    with op.batch_alter_table("prediction_logs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_prediction_logs_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_prediction_logs_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_prediction_logs_project_id"), ["project_id"], unique=False)

    op.create_table(
        "business_values",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("metric", sa.String(length=63), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("squares", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_business_values_deployment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_business_values")),
    )
    with op.batch_alter_table("business_values", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_business_values_project_id"), ["project_id"], unique=False)
        batch_op.create_index(
            "ix_business_values_window", ["deployment_id", "revision", "metric", "created_at"], unique=False
        )

    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("from_revision", sa.Integer(), nullable=False),
        sa.Column(
            "strategy",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("extensions", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "analysis",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=True,
        ),
        sa.Column(
            "history",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_rollouts_deployment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
        sa.UniqueConstraint("deployment_id", "revision", name=op.f("uq_rollouts_deployment_id_revision")),
    )
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rollouts_project_id"), ["project_id"], unique=False)

    op.create_table(
        "model_version_members",
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("member_id", sa.String(length=40), nullable=False),
        sa.Column("label", sa.String(length=220), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_model_version_members_version_id")
        ),
        sa.PrimaryKeyConstraint("version_id", "place", name=op.f("pk_model_version_members")),
    )
    with op.batch_alter_table("model_version_members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_model_version_members_member_id"), ["member_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_model_version_members_project_id"), ["project_id"], unique=False)

    with op.batch_alter_table("deployment_revisions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("home", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("keep_until", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column(
                "traffic",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=True,
            )
        )
        batch_op.add_column(
            sa.Column(
                "variants",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=True,
            )
        )

    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "autoscaling",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=True,
            )
        )
        batch_op.add_column(sa.Column("scaled_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column(
                "strategy",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=True,
            )
        )

    with op.batch_alter_table("sketch_batches", schema=None) as batch_op:
        batch_op.add_column(sa.Column("variant", sa.String(length=63), server_default="champion", nullable=False))
        batch_op.add_column(
            sa.Column(
                "latencies",
                sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
                nullable=True,
            )
        )
        batch_op.add_column(sa.Column("latency_sum_s", sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("sketch_batches", schema=None) as batch_op:
        batch_op.drop_column("latency_sum_s")
        batch_op.drop_column("latencies")
        batch_op.drop_column("variant")

    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_column("strategy")
        batch_op.drop_column("scaled_at")
        batch_op.drop_column("autoscaling")

    with op.batch_alter_table("deployment_revisions", schema=None) as batch_op:
        batch_op.drop_column("variants")
        batch_op.drop_column("traffic")
        batch_op.drop_column("keep_until")
        batch_op.drop_column("home")

    with op.batch_alter_table("model_version_members", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_version_members_project_id"))
        batch_op.drop_index(batch_op.f("ix_model_version_members_member_id"))

    op.drop_table("model_version_members")
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rollouts_project_id"))

    op.drop_table("rollouts")
    with op.batch_alter_table("business_values", schema=None) as batch_op:
        batch_op.drop_index("ix_business_values_window")
        batch_op.drop_index(batch_op.f("ix_business_values_project_id"))

    op.drop_table("business_values")
    with op.batch_alter_table("prediction_logs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_prediction_logs_project_id"))
        batch_op.drop_index(batch_op.f("ix_prediction_logs_expires_at"))
        batch_op.drop_index(batch_op.f("ix_prediction_logs_digest"))

    op.drop_table("prediction_logs")
