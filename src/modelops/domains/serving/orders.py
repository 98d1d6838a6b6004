"""What the workloads of a deployment are started with, and what their replicas are told to serve."""

from collections.abc import Mapping
from dataclasses import replace

from modelops.contracts.ports import ClusterScaling, WorkloadSpec
from modelops.domains.identity import service as identity
from modelops.domains.serving.directing import Order
from modelops.domains.serving.documents import token_of
from modelops.domains.serving.outcomes import stage_document
from modelops.domains.serving.replicas.control import PERMISSION, TOKEN_TTL_S
from modelops.domains.serving.rows import cluster_scaling_of, home_of
from modelops.domains.serving.rules import Desired, controls
from modelops.domains.serving.schemas import ServingLimits
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.domains.serving.workloads import workload_name, workload_spec
from modelops.kernel.context import Context


def specs(
    ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow], run: Mapping[int, int]
) -> dict[int, WorkloadSpec]:
    """Return the specs of the workloads to run, by the revision that each was started for.

    Args:
        run: How many replicas each shall have.
    """
    found, scaling = {}, scaled_home(row, revisions)
    for number, replicas in run.items():
        home, name = revisions[number], workload_name(row.id, number)
        document = _newest(row, revisions, number)
        limits = ServingLimits.model_validate(home.limits)
        spec = workload_spec(name, replicas, home.spec or {}, document, token_of(ctx, home), limits)
        found[number] = spec if scaling is None or scaling[0] != number else replace(spec, scaling=scaling[1])
    return found


def scaled_home(row: DeploymentRow, revisions: Mapping[int, RevisionRow]) -> tuple[int, ClusterScaling] | None:
    """Return the revision whose workload the cluster scales, and by what: that in which the active one lives.

    What is brought up beside it, or kept, has as many replicas as that has then.
    """
    policy = cluster_scaling_of(row)
    if policy is None or row.active_revision is None:
        return None
    return home_of(revisions[row.active_revision]), policy.port()


def orders(row: DeploymentRow, revisions: Mapping[int, RevisionRow], desired: Desired) -> dict[int, Order]:
    """Return what the replicas of each workload shall serve, where they can change it."""
    documents = {}
    if row.active_revision is not None and (spec := revisions[row.active_revision].spec) is not None:
        documents[desired.rest] = spec["document"]
    if desired.course is not None and desired.aim is not None:
        documents[desired.aim] = stage_document(row, revisions, desired.course)[0]
    return {
        home: Order(control, documents[control.digest], desired.rest) for home, control in controls(desired).items()
    }


def control_token(ctx: Context, row: DeploymentRow) -> str:
    """Return the platform's token for configuring this deployment's replicas, and no others."""
    return identity.call_token(ctx, [PERMISSION], ttl_s=TOKEN_TTL_S, deployments=[row.id])


def _newest(row: DeploymentRow, revisions: Mapping[int, RevisionRow], home: int) -> str:
    """Return what a process of a workload starts with: the document of the revision that serves there, or served last, or
    of the one that it was made for. What is still being tried is told to it once it is ready."""
    living = [one for one in revisions.values() if home_of(one) == home and one.activated_at is not None]
    serving = next((one for one in living if one.number == row.active_revision), None)
    last = max(living, key=lambda one: (one.activated_at, one.number), default=None)
    document: str = ((serving or last or revisions[home]).spec or {})["document"]
    return document
