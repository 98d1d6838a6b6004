"""Routes of studies and trials."""

from typing import Annotated

from fastapi import Path, Query, Response

from modelops.contracts.schemas import Page
from modelops.domains.experiments.analysis_schemas import ParameterImportance
from modelops.domains.tuning import service
from modelops.domains.tuning.schemas import (
    Beat,
    Beaten,
    Changes,
    Holder,
    ImportanceQuery,
    Since,
    Study,
    StudyCreate,
    StudyUpdate,
    Trial,
    TrialAnswer,
    TrialAsk,
    TrialEnqueue,
    TrialHeard,
    TrialReport,
    TrialTell,
)
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.scope import Scope

router = Router("tuning")

Number = Annotated[int, Path(ge=0, lt=2**31, description="A trial's number.")]

_REPORT_HEADERS = {
    "Content-Disposition": 'attachment; filename="study.html"',
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


@router.post("/studies", status_code=201)
def create_study(ctx: Context, body: StudyCreate) -> Study:
    """Make a study."""
    return service.create_study(ctx, body)


@router.get("/studies")
def list_studies(ctx: Context, page: Listing) -> Page[Study]:
    """List the project's studies."""
    return service.list_studies(ctx, page)


@router.get("/studies/{study}")
def get_study(ctx: Context, study: Ref) -> Study:
    """Return a study."""
    return service.get_study(ctx, study)


@router.patch("/studies/{study}")
def update_study(ctx: Context, study: Ref, body: StudyUpdate) -> Study:
    """Change a study's budget or what is said of it."""
    return service.update_study(ctx, study, body)


@router.delete("/studies/{study}", status_code=204)
def delete_study(ctx: Context, study: Ref) -> None:
    """Forget a study and its trials. Their runs stay."""
    return service.delete_study(ctx, study)


@router.post("/studies/{study}/stop")
def stop_study(ctx: Context, study: Ref) -> Study:
    """Stop a study: no trial begins any more."""
    return service.stop_study(ctx, study)


@router.post("/studies/{study}/resume")
def resume_study(ctx: Context, study: Ref) -> Study:
    """Let a stopped study go on."""
    return service.resume_study(ctx, study)


@router.post("/studies/{study}/ask")
async def ask_trial(scope: Scope, study: Ref, body: TrialAsk) -> TrialAnswer:
    """Ask for a trial to run: one that waits, else a new one, its lease and its run."""
    return await service.ask_trial(scope, study, body)


@router.post("/studies/{study}/beat")
async def beat_trials(scope: Scope, study: Ref, body: Beat) -> Beaten:
    """Say that a worker is alive."""
    return await service.beat_trials(scope, study, body)


@router.get("/studies/{study}/changes")
def list_changes(
    ctx: Context,
    study: Ref,
    since: Annotated[Since, Query()] = 0,
    base: Annotated[int | None, Query(ge=0, lt=2**63, description="Values are told behind this cursor.")] = None,
    holder: Annotated[Holder | None, Query(description="Leave out what this holder did.")] = None,
) -> Changes:
    """List what changed on a study's trials since a cursor."""
    return service.list_changes(ctx, study, since, base, holder)


@router.post("/studies/{study}/trials", status_code=201)
def enqueue_trial(ctx: Context, study: Ref, body: TrialEnqueue) -> Trial:
    """Put a trial of known parameters before those that a sampler chooses."""
    return service.enqueue_trial(ctx, study, body)


@router.get("/studies/{study}/trials")
def list_trials(ctx: Context, study: Ref, page: Listing) -> Page[Trial]:
    """List a study's trials."""
    return service.list_trials(ctx, study, page)


@router.get("/studies/{study}/trials/{number}")
def get_trial(ctx: Context, study: Ref, number: Number) -> Trial:
    """Return a trial."""
    return service.get_trial(ctx, study, number)


@router.post("/studies/{study}/trials/{number}/report")
async def report_trial(scope: Scope, study: Ref, number: Number, body: TrialReport) -> TrialHeard:
    """Record intermediate values of a trial under way."""
    return await service.report_trial(scope, study, number, body)


@router.post("/studies/{study}/trials/{number}/tell")
async def tell_trial(scope: Scope, study: Ref, number: Number, body: TrialTell) -> TrialHeard:
    """End a trial, or give it back."""
    return await service.tell_trial(scope, study, number, body)


@router.get("/studies/{study}/best")
def get_best_trials(
    ctx: Context, study: Ref, limit: Annotated[int, Query(ge=1, le=1_000, description="How many at most.")] = 10
) -> Page[Trial]:
    """Return the best trials, or the Pareto front."""
    return service.get_best_trials(ctx, study, limit)


@router.get("/studies/{study}/importance")
def get_importance(ctx: Context, study: Ref, query: Annotated[ImportanceQuery, Query()]) -> ParameterImportance:
    """Tell which parameters an objective depends on."""
    return service.get_importance(ctx, study, query)


@router.get("/studies/{study}/report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def report_study(ctx: Context, study: Ref) -> Response:
    """Return a report on a study: one HTML file with plots that needs nothing else."""
    return Response(service.report_study(ctx, study), media_type="text/html", headers=_REPORT_HEADERS)
