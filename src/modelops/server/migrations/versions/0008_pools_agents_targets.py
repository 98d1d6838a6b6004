"""Pools and the queues over them, agents, and where deployments run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent_processes",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("agent_id", sa.String(length=40), nullable=True),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("spec_digest", sa.String(length=80), nullable=False),
        sa.Column("fixed_digest", sa.String(length=80), nullable=True),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.String(length=20), nullable=False),
        sa.Column("grace_s", sa.Double(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column(
            "seen",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=True,
        ),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_agent_processes")),
    )
    with op.batch_alter_table("agent_processes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_agent_processes_agent_id",
            ["agent_id"],
            unique=False,
            sqlite_where=sa.text('"agent_id" IS NOT NULL'),
            postgresql_where=sa.text('"agent_id" IS NOT NULL'),
        )

    op.create_table(
        "agents",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("url", sa.String(length=300), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents")),
    )
    op.create_table(
        "cluster_output_pieces",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "start", name=op.f("pk_cluster_output_pieces")),
    )
    op.create_table(
        "cluster_outputs",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("attempt", sa.String(length=200), nullable=True),
        sa.Column("pod", sa.String(length=255), nullable=False),
        sa.Column("last", sa.String(length=40), nullable=False),
        sa.Column("same", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("kept_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cluster_outputs")),
    )
    with op.batch_alter_table("cluster_outputs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_cluster_outputs_attempt",
            ["attempt"],
            unique=False,
            sqlite_where=sa.text('"attempt" IS NOT NULL'),
            postgresql_where=sa.text('"attempt" IS NOT NULL'),
        )

    op.create_table(
        "compute_cluster_queues",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=True),
        sa.Column("cohort", sa.String(length=200), nullable=True),
        sa.Column(
            "groups",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "preemption",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("strategy", sa.String(length=20), nullable=False),
        sa.Column("when_can_borrow", sa.String(length=20), nullable=False),
        sa.Column("when_can_preempt", sa.String(length=20), nullable=False),
        sa.Column("fair_weight", sa.Double(), nullable=False),
        sa.Column("stop_policy", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_cluster_queues")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_cluster_queues_name")),
    )
    with op.batch_alter_table("compute_cluster_queues", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_compute_cluster_queues_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "compute_cohorts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("parent", sa.String(length=200), nullable=True),
        sa.Column(
            "groups",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("fair_weight", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_cohorts")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_cohorts_name")),
    )
    op.create_table(
        "compute_flavors",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("pool", sa.String(length=200), nullable=True),
        sa.Column(
            "node_labels",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "tolerations",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_flavors")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_flavors_name")),
    )
    op.create_table(
        "compute_ledger",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("considered", sa.BigInteger(), nullable=False),
        sa.Column("considered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("repaired", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_ledger")),
    )
    op.create_table(
        "compute_pools",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=False),
        sa.Column("gpu_model", sa.String(length=60), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("timeslice_replicas", sa.Integer(), nullable=False),
        sa.Column("gpu_resource_name", sa.String(length=250), nullable=True),
        sa.Column(
            "node_selector",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "tolerations",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "cordoned",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "device_names",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("capacity_shares", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_pools")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_pools_name")),
    )
    op.create_table(
        "compute_priority_classes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_priority_classes")),
        sa.UniqueConstraint("name", name=op.f("uq_compute_priority_classes_name")),
    )
    op.create_table(
        "compute_queues",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("cluster_queue", sa.String(length=200), nullable=False),
        sa.Column(
            "limits",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("stop_policy", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_queues")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_compute_queues_project_id_name")),
    )
    with op.batch_alter_table("compute_queues", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_compute_queues_cluster_queue"), ["cluster_queue"], unique=False)
        batch_op.create_index(batch_op.f("ix_compute_queues_project_id"), ["project_id"], unique=False)

    op.create_table(
        "compute_quotas",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("holder_id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column(
            "limits",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_quotas")),
        sa.UniqueConstraint("holder_id", name=op.f("uq_compute_quotas_holder_id")),
    )
    with op.batch_alter_table("compute_quotas", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_compute_quotas_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "compute_workloads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("queue_id", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=200), nullable=False),
        sa.Column("cluster_queue", sa.String(length=200), nullable=False),
        sa.Column("pool", sa.String(length=200), nullable=True),
        sa.Column("priority_class", sa.String(length=200), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column(
            "requests",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("mig_profile", sa.String(length=40), nullable=True),
        sa.Column("device_count", sa.Integer(), nullable=False),
        sa.Column("min_device_count", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "admission",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=True,
        ),
        sa.Column("preemptions", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["queue_id"], ["compute_queues.id"], name=op.f("fk_compute_workloads_queue_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_workloads")),
        sa.UniqueConstraint("job_id", name=op.f("uq_compute_workloads_job_id")),
    )
    with op.batch_alter_table("compute_workloads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_compute_workloads_project_id"), ["project_id"], unique=False)
        batch_op.create_index("ix_compute_workloads_queue", ["cluster_queue", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_compute_workloads_queue_id"), ["queue_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_compute_workloads_state"), ["state"], unique=False)

    op.create_table(
        "compute_allocations",
        sa.Column("pool", sa.String(length=200), nullable=False),
        sa.Column("device", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("profile", sa.String(length=40), nullable=False),
        sa.Column("shares", sa.Integer(), nullable=False),
        sa.Column("workload_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workload_id"], ["compute_workloads.id"], name=op.f("fk_compute_allocations_workload_id")
        ),
        sa.PrimaryKeyConstraint("pool", "device", "position", name=op.f("pk_compute_allocations")),
    )
    with op.batch_alter_table("compute_allocations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_compute_allocations_workload_id"), ["workload_id"], unique=False)

    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("target", sa.String(length=20), server_default="local", nullable=False))

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("queue", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("pool", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("priority", sa.String(length=200), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("priority")
        batch_op.drop_column("pool")
        batch_op.drop_column("queue")

    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_column("target")

    with op.batch_alter_table("compute_allocations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_compute_allocations_workload_id"))

    op.drop_table("compute_allocations")
    with op.batch_alter_table("compute_workloads", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_compute_workloads_state"))
        batch_op.drop_index(batch_op.f("ix_compute_workloads_queue_id"))
        batch_op.drop_index("ix_compute_workloads_queue")
        batch_op.drop_index(batch_op.f("ix_compute_workloads_project_id"))

    op.drop_table("compute_workloads")
    with op.batch_alter_table("compute_quotas", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_compute_quotas_tenant_id"))

    op.drop_table("compute_quotas")
    with op.batch_alter_table("compute_queues", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_compute_queues_project_id"))
        batch_op.drop_index(batch_op.f("ix_compute_queues_cluster_queue"))

    op.drop_table("compute_queues")
    op.drop_table("compute_priority_classes")
    op.drop_table("compute_pools")
    op.drop_table("compute_ledger")
    op.drop_table("compute_flavors")
    op.drop_table("compute_cohorts")
    with op.batch_alter_table("compute_cluster_queues", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_compute_cluster_queues_tenant_id"))

    op.drop_table("compute_cluster_queues")
    with op.batch_alter_table("cluster_outputs", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_cluster_outputs_attempt",
            sqlite_where=sa.text('"attempt" IS NOT NULL'),
            postgresql_where=sa.text('"attempt" IS NOT NULL'),
        )

    op.drop_table("cluster_outputs")
    op.drop_table("cluster_output_pieces")
    op.drop_table("agents")
    with op.batch_alter_table("agent_processes", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_agent_processes_agent_id",
            sqlite_where=sa.text('"agent_id" IS NOT NULL'),
            postgresql_where=sa.text('"agent_id" IS NOT NULL'),
        )

    op.drop_table("agent_processes")
