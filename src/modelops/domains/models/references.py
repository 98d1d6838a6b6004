"""Versions that only say where a model lies: without files there is nothing to sign for, to verify or to deploy."""

from collections.abc import Mapping

from modelops.contracts.errors import NotFound
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.schemas import Run
from modelops.domains.models.finding import to_version
from modelops.domains.models.making import add_version, model_to_register
from modelops.domains.models.rules import UNPACKAGED, check_name, check_tag
from modelops.domains.models.schemas import ModelSignature, ModelVersion, Stage
from modelops.kernel.context import Context


def register_reference(
    ctx: Context,
    name: str,
    *,
    source: str,
    why: str,
    run: str | None = None,
    run_link: str | None = None,
    logged_model_id: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> ModelVersion:
    """Register a version without files (for the domains above); the model is made if it is new.

    Args:
        source: Where the model is said to lie.
        why: Says to people why it cannot be deployed.
        run: The run that is said to have made it; one that is not of this project is kept as a claim.
    """
    ctx.require("models.write")
    check_name(name)
    for key, value in (tags or {}).items():
        check_tag(key, value)
    known = _run_of(ctx, run)
    row = add_version(
        ctx,
        model_to_register(ctx, name),
        UNPACKAGED,
        [],
        ModelSignature(inputs=[]),
        stage=Stage.DEVELOPMENT,
        run_id=known.id if known else None,
        job_id=known.job_id if known else None,
        dataset_version_id=None,
        code_digest=None,
        requirements=[],
        metrics={},
        parameters={},
        tags=dict(tags or {}),
        description=description,
        source=source,
        run_link=run_link,
        logged_model_id=logged_model_id,
        claimed_run=None if known else run,
        undeployable=why,
    )
    return to_version(ctx, row)


def _run_of(ctx: Context, run: str | None) -> Run | None:
    try:
        return experiments.find_run(ctx, run) if run else None
    except NotFound:
        return None
