"""What tuning does. Context first, one verb a function; the edge commits. What workers send is in `asking` and `telling`."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import delete, select

from modelops.contracts.errors import AlreadyExists, Conflict, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.analysis_schemas import ParameterImportance
from modelops.domains.experiments.schemas import ExperimentCreate
from modelops.domains.tuning import analysis
from modelops.domains.tuning.asking import ask_trial, beat_trials
from modelops.domains.tuning.blocks import new_entry
from modelops.domains.tuning.ending import finish, lapse
from modelops.domains.tuning.ledger import (
    changes_since,
    insert_trials,
    keep_study,
    lock_study,
    read_space,
    write_objectives,
    write_space,
)
from modelops.domains.tuning.rows import as_studies, as_study, as_trials, find_study, trials_of
from modelops.domains.tuning.rules import Stop, StudyError, check_parameters, check_study, grid_size, why_stopped
from modelops.domains.tuning.schemas import (
    Changes,
    Dimension,
    ImportanceQuery,
    Sampler,
    SamplerName,
    Study,
    StudyCreate,
    StudyState,
    StudyUpdate,
    Trial,
    TrialEnqueue,
    TrialState,
)
from modelops.domains.tuning.tables import IntermediateRow, StudyRow, TrialRow
from modelops.domains.tuning.telling import report_trial, tell_trial
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of
from modelops.kernel.listing import PageQuery, list_rows

__all__ = ["ask_trial", "beat_trials", "report_trial", "tell_trial"]

_STUDY_FIELDS = {
    "name": StudyRow.name,
    "state": StudyRow.state,
    "created_at": StudyRow.created_at,
    "ended_at": StudyRow.ended_at,
    "created_by": StudyRow.created_by,
    "best_value": StudyRow.best_value,
}
_TRIAL_FIELDS = {
    "number": TrialRow.number,
    "state": TrialRow.state,
    "value": TrialRow.value,
    "holder": TrialRow.holder,
    "started_at": TrialRow.started_at,
    "ended_at": TrialRow.ended_at,
}


def create_study(ctx: Context, body: StudyCreate) -> Study:
    """Make a study, and the experiment of its runs if there is none of that name."""
    ctx.require("studies.write")
    check_study(body)
    if ctx.session.scalars(ctx.query(StudyRow).where(StudyRow.name == body.name)).first():
        raise AlreadyExists(f"There is a study '{body.name}' already.", hint="Go on with it, or choose another name.")
    study_id, now = new_id("std"), ctx.clock.now()
    seed = body.sampler.seed
    sampler = body.sampler if seed is not None else body.sampler.model_copy(update={"seed": secrets.randbelow(2**32)})
    row = StudyRow(
        id=study_id,
        project_id=ctx.project_id,
        objectives=write_objectives(body.objectives),
        space=None if body.space is None else write_space(body.space),
        sampler=sampler.model_dump_json(),
        pruner=body.pruner.model_dump_json(),
        experiment_id=_experiment(ctx, body.experiment or body.name),
        max_trials=_most(body.sampler, body.space or {}, body.max_trials),
        state=StudyState.RUNNING,
        trials=0,
        completed=0,
        pruned=0,
        failed=0,
        best_at=0,
        changes=0,
        revision=1,
        created_at=now,
        created_by=ctx.actor.id,
        **body.model_dump(
            include={
                "name", "description", "max_seconds", "target", "patience", "max_failures", "retries", "lease_s", "tags"
            }
        ),
    )  # fmt: skip
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.tuning.study_created", row.id, name=row.name)
    return as_study(ctx, row)


def list_studies(ctx: Context, page: PageQuery) -> Page[Study]:
    """List the project's studies, newest first."""
    ctx.require("studies.read")
    found = list_rows(ctx, ctx.query(StudyRow), StudyRow.id, _STUDY_FIELDS, page, order="desc")
    return Page(items=as_studies(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_study(ctx: Context, study: str) -> Study:
    """Return a study."""
    ctx.require("studies.read")
    return as_study(ctx, find_study(ctx, study))


def update_study(ctx: Context, study: str, body: StudyUpdate) -> Study:
    """Change a study's budget or what is said of it. One that was finished goes on if the budget allows."""
    ctx.require("studies.write")
    row = find_study(ctx, study, lock=True)
    ctx.check_revision(row)
    for name in body.model_fields_set:
        value = getattr(body, name)
        if value is not None or name not in ("description", "tags"):
            setattr(row, name, value)
    if "max_trials" in body.model_fields_set:
        sampler = Sampler.model_validate_json(row.sampler)
        row.max_trials = _most(sampler, read_space(row.space or "{}"), body.max_trials)
    if row.state == StudyState.FINISHED and _stop_of(ctx, row) is None:
        row.state, row.reason, row.ended_at = StudyState.RUNNING, None, None
    return as_study(ctx, row)


def delete_study(ctx: Context, study: str) -> None:
    """Forget a study and its trials. Their runs stay."""
    ctx.require("studies.write")
    row = find_study(ctx, study, lock=True)
    for kind in (IntermediateRow, TrialRow):
        ctx.session.execute(delete(kind).where(kind.study_number == row.number))
    ctx.session.delete(row)
    ctx.emit("modelops.tuning.study_deleted", row.id, name=row.name)


def stop_study(ctx: Context, study: str) -> Study:
    """Stop a study: no trial begins any more, and workers hear of it with their next word. Twice is no error."""
    ctx.require("studies.write")
    row = find_study(ctx, study, lock=True)
    if row.state == StudyState.RUNNING:
        row.state, row.reason, row.ended_at = StudyState.STOPPED, f"Stopped by {ctx.actor.name}.", ctx.clock.now()
        row.touch()
        ctx.emit("modelops.tuning.study_stopped", row.id, name=row.name, reason=row.reason)
    return as_study(ctx, row)


def resume_study(ctx: Context, study: str) -> Study:
    """Let a stopped study go on.

    Raises:
        StudyError: its budget is spent.
    """
    ctx.require("studies.write")
    row = find_study(ctx, study, lock=True)
    if row.state == StudyState.RUNNING:
        return as_study(ctx, row)
    stop = _stop_of(ctx, row)
    if stop is not None and (stop.hard or row.state == StudyState.FINISHED):
        raise StudyError(
            f"The study '{row.name}' cannot go on: {stop.reason}",
            hint=f"Give it more: mops studies update-study {row.name} --max-trials {row.trials * 2}",
        )
    row.state, row.reason, row.ended_at = StudyState.RUNNING, None, None
    row.touch()
    ctx.emit("modelops.tuning.study_resumed", row.id, name=row.name)
    return as_study(ctx, row)


def enqueue_trial(ctx: Context, study: str, body: TrialEnqueue) -> Trial:
    """Put a trial with some or all of its parameters before those that a sampler chooses.

    Raises:
        ParameterOutside: a parameter does not lie in the study's space.
        Conflict: the budget is spent.
    """
    ctx.require("studies.write")
    found = find_study(ctx, study, lock=True)
    raw, now = raw_of(ctx.session), ctx.clock.now()
    ledger = lock_study(raw, ctx.actor, found.id)
    if ledger.max_trials is not None and ledger.trials >= ledger.max_trials:
        raise Conflict(f"The budget of {ledger.max_trials} trials is spent.", hint="Raise `max_trials` first.")
    if (ranges := ledger.ranges) is not None:
        grid = SamplerName(json.loads(found.sampler)["name"]) is SamplerName.GRID
        check_parameters(ranges, body.parameters, whole=grid)
    entry = new_entry(raw, ledger, body.parameters, TrialState.WAITING, now)
    entry.attributes = json.dumps(body.attributes, ensure_ascii=False)
    insert_trials(raw, ledger, [entry], None)
    keep_study(raw, ledger)
    return _trial(ctx, found, entry.number)


def list_trials(ctx: Context, study: str, page: PageQuery) -> Page[Trial]:
    """List a study's trials by number."""
    ctx.require("studies.read")
    row = find_study(ctx, study)
    found = list_rows(ctx, trials_of(row), TrialRow.number, _TRIAL_FIELDS, page)
    return Page(items=as_trials(ctx, row, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_trial(ctx: Context, study: str, number: int) -> Trial:
    """Return a trial."""
    ctx.require("studies.read")
    return _trial(ctx, find_study(ctx, study), number)


def get_best_trials(ctx: Context, study: str, limit: int) -> Page[Trial]:
    """Return the best completed trials, best first; of several objectives, those that nothing beats in all at once."""
    ctx.require("studies.read")
    row = find_study(ctx, study)
    best, total = analysis.best_trials(ctx, row, limit)
    return Page(items=as_trials(ctx, row, best), next_cursor=None, total=total)


def get_importance(ctx: Context, study: str, query: ImportanceQuery) -> ParameterImportance:
    """Tell which parameters an objective depends on, or why that cannot be told."""
    ctx.require("studies.read")
    return analysis.importance(ctx, find_study(ctx, study), query.objective)


def report_study(ctx: Context, study: str) -> str:
    """Return a report on a study: one HTML file with its history and plots that needs nothing else."""
    ctx.require("studies.read")
    return analysis.report(ctx, find_study(ctx, study))


def list_changes(ctx: Context, study: str, since: int, base: int | None, holder: str | None) -> Changes:
    """Return what changed on a study's trials since a cursor, for who keeps a copy of them."""
    ctx.require("studies.read")
    raw = raw_of(ctx.session)
    return changes_since(raw, lock_study(raw, ctx.actor, study, lock=False), since, holder, base=base)


def silent_studies(ctx: Context) -> list[str]:
    """Return the studies of every project with trials whose workers fell silent (for the reconciler)."""
    query = (
        select(StudyRow.id)
        .join(TrialRow, TrialRow.study_number == StudyRow.number)
        .where(TrialRow.lease_until < ctx.clock.now())
        .distinct()
        .limit(500)
    )
    return list(ctx.session.scalars(query))


def take_back_trials(ctx: Context, study: str) -> None:
    """Take a study's trials back whose workers fell silent (for the reconciler)."""
    row = ctx.session.scalars(select(StudyRow).where(StudyRow.id == study)).one_or_none()
    if row is None:
        return
    inside = ctx.within(row.project_id)
    raw = raw_of(ctx.session)
    ledger = lock_study(raw, inside.actor, row.id)
    now = ctx.clock.now()
    if lapse(raw, inside, inside.actor, ledger, now):
        if (stop := why_stopped(ledger.progress, now)) is not None:
            finish(raw, inside, inside.actor, ledger, stop, now)
        keep_study(raw, ledger)


def _trial(ctx: Context, study: StudyRow, number: int) -> Trial:
    row = ctx.session.get(TrialRow, (study.number, number))
    if row is None:
        raise NotFound(f"The study '{study.name}' has no trial {number}.")
    return as_trials(ctx, study, [row])[0]


def _experiment(ctx: Context, name: str) -> str:
    """Return the id of an experiment, made if there is none."""
    try:
        found = experiments.get_experiment(ctx, name)
    except NotFound:
        found = experiments.create_experiment(ctx, ExperimentCreate(name=name))
    if found.deleted_at is not None:
        raise Conflict(f"The experiment '{found.name}' is deleted.", hint="Restore it first, or name another.")
    return found.id


def _most(sampler: Sampler, space: Mapping[str, Dimension], wanted: int | None) -> int | None:
    """Return how many trials there may be: of a grid, no more than it has points."""
    if sampler.name is not SamplerName.GRID:
        return wanted
    size = grid_size(space)
    return size if wanted is None or size is None else min(size, wanted)


def _stop_of(ctx: Context, row: StudyRow) -> Stop | None:
    """Return what keeps a study from going on, were it not for its state."""
    ctx.session.flush()
    progress = lock_study(raw_of(ctx.session), ctx.actor, row.id).progress
    return why_stopped(replace(progress, state=StudyState.RUNNING), ctx.clock.now())
