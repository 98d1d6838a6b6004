"""The steps of deployments and of orchestrations. They run in workers, which have the product installed."""

from typing import Any, NamedTuple

from pydantic import TypeAdapter

from modelops.contracts.errors import DeploymentError, InvalidInput, MLOpsError, NotFound
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.schemas import RunState
from modelops.domains.serving.courses.courses import Strategy
from modelops.domains.serving.schemas import DeploymentState
from modelops.sdk.pipelines import step
from modelops.sdk.step_context import step_context


class Candidate(NamedTuple):
    """A version as it is named for good, and what is known of it."""

    ref: str
    metrics: dict[str, float]


class Deployed(NamedTuple):
    """What serves now, and the revision that served before; 0 where there was none."""

    revision: int
    before: int


class Verified(NamedTuple):
    """That it answers; and what."""

    ok: bool
    predictions: list[Any]


@step
def check(model: str, minimum: dict[str, float]) -> Candidate:
    """Find out which version is meant, and refuse one whose metrics are too low."""
    from modelops.sdk.registry import ModelRegistry

    version = ModelRegistry(step_context().client).find_version(model)
    for metric, least in minimum.items():
        found = version.metrics.get(metric)
        if found is None or found < least:
            told = "is not known" if found is None else f"is {found:g}"
            raise DeploymentError(
                f"'{version.name}:{version.version}' is refused: {metric} {told}, and must be {least:g}."
            )
    return Candidate(f"{version.name}:{version.version}", version.metrics)


@step(retries=2)
def deploy(ref: str, deployment: str, replicas: int, strategy: dict[str, Any], timeout_s: float) -> Deployed:
    """Make the deployment, or change it to the version, and wait until it serves."""
    serving = step_context().client.serving
    course = TypeAdapter(Strategy).validate_python(strategy) if strategy else None
    try:
        known = serving.get_deployment(deployment)
    except NotFound:
        before = 0
        serving.create_deployment(deployment, ref, replicas=replicas, strategy=course)
    else:
        before = known.active_revision or 0
        serving.update_deployment(deployment, model=ref, replicas=replicas, strategy=course)
    found = serving.wait_until_settled(deployment, timeout_s)
    serves = f"{found.model}:{found.model_version}" == ref
    if found.state not in (DeploymentState.READY, DeploymentState.IDLE) or not serves:
        raise DeploymentError(
            f"'{deployment}' is {found.state} and did not come to serve '{ref}'. {found.reason or ''}"
        )
    return Deployed(found.active_revision or found.wanted_revision, before)


@step
def verify(deployment: str, sample: list[Any]) -> Verified:
    """Ask the deployment for some rows; without any, see that it is ready."""
    serving = step_context().client.serving
    if not sample:
        found = serving.get_deployment(deployment)
        if found.state not in (DeploymentState.READY, DeploymentState.IDLE):
            raise DeploymentError(f"'{deployment}' is {found.state}. {found.reason or ''}")
        return Verified(True, [])
    answers = serving.predict(deployment, sample).predictions
    if len(answers) != len(sample):
        raise DeploymentError(f"'{deployment}' gave {len(answers)} answers to {len(sample)} rows.")
    return Verified(True, list(answers))


@step
def roll_back(deployment: str, before: int) -> int:
    """Go back to the revision that served before; where there was none, the deployment is left for people to look at."""
    if before:
        step_context().client.serving.rollback_deployment(deployment, revision=before)
    return before


@step(timeout_s=30 * 86_400.0)
def run_pipeline(pipeline: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a pipeline to its end. What is cancelled here is cancelled there."""
    context = step_context()
    pipelines = context.client.pipelines
    run = pipelines.start_run(pipeline, parameters=parameters, tags={"orchestrated_by": context.run_id})
    context.log(f"{pipeline}: {run.id}")
    try:
        ended = pipelines.wait_for_run(run.id)
    except BaseException as stopped:
        if not isinstance(stopped, MLOpsError):
            pipelines.cancel_run(run.id, reason=f"The orchestration '{context.run_id}' was stopped.")
        raise
    if ended.state is not RunState.SUCCEEDED:
        raise InvalidInput(f"The run '{run.id}' of '{pipeline}' is {ended.state}. {ended.reason or ''}".strip())
    told: dict[str, Json] = {"pipeline": pipeline, "run_id": run.id}
    return told
