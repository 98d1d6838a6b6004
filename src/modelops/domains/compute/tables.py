"""Rows of compute. What is the platform's has a name of its own; what is a project's has one in it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class LedgerRow(Base):
    """The one row that whoever admits, releases or changes quotas holds until the transaction ends. `generation` counts
    changes, and `considered` is the one that was decided on last, at `considered_at`; `repaired` counts shares that had leaked.
    """

    __tablename__ = "compute_ledger"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(BigInteger)
    considered: Mapped[int] = mapped_column(BigInteger)
    considered_at: Mapped[datetime] = mapped_column(Moment)
    repaired: Mapped[int] = mapped_column(BigInteger)


class FlavorRow(Tracked, Revised, Base):
    """A flavor; with `pool`, that of the pool of its name."""

    __tablename__ = "compute_flavors"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    pool: Mapped[str | None] = mapped_column(String(200))
    node_labels: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    tolerations: Mapped[list[dict[str, str]]] = mapped_column(JsonColumn)


class PoolRow(Tracked, Revised, Base):
    """A pool. `capacity_shares` follows from the rest."""

    __tablename__ = "compute_pools"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    mode: Mapped[str] = mapped_column(String(20))
    gpu_model: Mapped[str] = mapped_column(String(60))
    gpu_count: Mapped[int]
    timeslice_replicas: Mapped[int]
    gpu_resource_name: Mapped[str | None] = mapped_column(String(250))
    node_selector: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    tolerations: Mapped[list[dict[str, str]]] = mapped_column(JsonColumn)
    cordoned: Mapped[list[int]] = mapped_column(JsonColumn)
    device_names: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    capacity_shares: Mapped[int]


class CohortRow(Tracked, Revised, Base):
    __tablename__ = "compute_cohorts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    parent: Mapped[str | None] = mapped_column(String(200))
    groups: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    fair_weight: Mapped[float]


class ClusterQueueRow(Tracked, Revised, Base):
    """A cluster queue; with `tenant_id`, that tenant's alone."""

    __tablename__ = "compute_cluster_queues"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    tenant_id: Mapped[str | None] = mapped_column(String(40), index=True)
    cohort: Mapped[str | None] = mapped_column(String(200))
    groups: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    preemption: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    strategy: Mapped[str] = mapped_column(String(20))
    when_can_borrow: Mapped[str] = mapped_column(String(20))
    when_can_preempt: Mapped[str] = mapped_column(String(20))
    fair_weight: Mapped[float]
    stop_policy: Mapped[str] = mapped_column(String(20))


class QueueRow(Tracked, Revised, InProject, Base):
    """A project's queue; `cluster_queue` is a name."""

    __tablename__ = "compute_queues"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    cluster_queue: Mapped[str] = mapped_column(String(200), index=True)
    limits: Mapped[dict[str, float]] = mapped_column(JsonColumn)
    stop_policy: Mapped[str] = mapped_column(String(20))


class QuotaRow(Tracked, Revised, Base):
    """What a tenant, or one of its projects, holds at most at a time; `holder_id` is whose it is."""

    __tablename__ = "compute_quotas"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    scope: Mapped[str] = mapped_column(String(20))
    holder_id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    project_id: Mapped[str | None] = mapped_column(String(40))
    limits: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)


class PriorityClassRow(Tracked, Revised, Base):
    __tablename__ = "compute_priority_classes"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    value: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str] = mapped_column(Text)


class WorkloadRow(Tracked, Revised, InProject, Base):
    """A job in a queue. `requests` are in thousandths, by resource, as asked for, with `device_count` devices; with
    `min_device_count`, so few will do. `admission` is what the allocator decided, there while quota is held; `started_at` is
    when its job took it up."""

    __tablename__ = "compute_workloads"
    __table_args__ = (Index("ix_compute_workloads_queue", "cluster_queue", "state"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40))
    job_id: Mapped[str] = mapped_column(String(40), unique=True)
    queue_id: Mapped[str] = mapped_column(ForeignKey("compute_queues.id"), index=True)
    queue: Mapped[str] = mapped_column(String(200))
    cluster_queue: Mapped[str] = mapped_column(String(200))
    pool: Mapped[str | None] = mapped_column(String(200))
    priority_class: Mapped[str | None] = mapped_column(String(200))
    priority: Mapped[int] = mapped_column(BigInteger)
    requests: Mapped[dict[str, int]] = mapped_column(JsonColumn)
    mig_profile: Mapped[str | None] = mapped_column(String(40))
    device_count: Mapped[int]
    min_device_count: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    admission: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    preemptions: Mapped[int]
    not_before: Mapped[datetime | None] = mapped_column(Moment)
    admitted_at: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


class AllocationRow(Base):
    """What a workload holds of a pool's devices. The key keeps two from the same place, whatever else goes wrong."""

    __tablename__ = "compute_allocations"

    pool: Mapped[str] = mapped_column(String(200), primary_key=True)
    device: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    profile: Mapped[str] = mapped_column(String(40))
    shares: Mapped[int]
    workload_id: Mapped[str] = mapped_column(ForeignKey("compute_workloads.id"), index=True)
    job_id: Mapped[str] = mapped_column(String(40))
    tenant_id: Mapped[str] = mapped_column(String(40))
    project_id: Mapped[str] = mapped_column(String(40))
    since: Mapped[datetime] = mapped_column(Moment)
