"""The history of rollouts: each change of a course, written down and told."""

from typing import Any

from modelops.contracts.ids import new_id
from modelops.contracts.schemas import jsonable
from modelops.domains.serving.courses.courses import Course, Hold, RolloutState, Strategy
from modelops.domains.serving.courses.strategies import stages
from modelops.domains.serving.rollouts import AnalysisResult, Rollout, RolloutEntry, RolloutEvent
from modelops.domains.serving.rows import course_of
from modelops.domains.serving.tables import DeploymentRow, RevisionRow, RolloutRow
from modelops.kernel.context import Context

_MOST_ENTRIES = 500


def add_rollout(ctx: Context, row: DeploymentRow, revision: RevisionRow, strategy: Strategy) -> RolloutRow:
    """Begin the rollout of a revision over the active one."""
    rollout = RolloutRow(
        id=new_id("rol"),
        project_id=row.project_id,
        deployment_id=row.id,
        revision=revision.number,
        from_revision=row.active_revision or 0,
        strategy=jsonable(strategy),
        state=RolloutState.PROGRESSING,
        step=0,
        extensions=0,
        looks=0,
        history=[],
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(rollout)
    _record(ctx, row, rollout, course_of(rollout), RolloutEvent.STARTED, None)
    ctx.session.flush()
    return rollout


def write_course(
    ctx: Context, row: DeploymentRow, rollout: RolloutRow, course: Course, *, analysis: AnalysisResult | None = None
) -> None:
    """Write where a rollout stands now, and what came about since."""
    before = course_of(rollout)
    if analysis is not None:
        rollout.analysis = jsonable(analysis)
    rollout.state, rollout.step, rollout.began_at = course.state, course.step, course.began_at
    rollout.extensions, rollout.looks, rollout.looked_at = course.extensions, course.looks, course.looked_at
    rollout.hold, rollout.reason = course.hold, course.reason
    for event in events_between(before, course):
        _record(ctx, row, rollout, course, event, analysis)
    if course.finished and rollout.finished_at is None:
        rollout.finished_at = ctx.clock.now()


def events_between(before: Course, after: Course) -> list[RolloutEvent]:
    """Return what came about between two looks at a course, in order."""
    found = []
    if before.hold is not None and after.hold is None and not after.finished:
        found.append(RolloutEvent.RESUMED)
    if after.step > before.step:
        found.append(RolloutEvent.PROMOTED if after.last else RolloutEvent.STEP)
    elif after.extensions > before.extensions:
        found.append(RolloutEvent.EXTENDED)
    if after.hold is not None and before.hold is None:
        found.append(RolloutEvent.PAUSED)
    if after.finished and not before.finished:
        found.append(RolloutEvent(after.state.value))
    return found


def as_rollout(row: RolloutRow) -> Rollout:
    """Return a rollout as it reads."""
    course = course_of(row)
    return Rollout(
        id=row.id,
        deployment_id=row.deployment_id,
        revision=row.revision,
        from_revision=row.from_revision,
        strategy=course.strategy,
        state=course.state,
        hold=course.hold,
        reason=course.reason,
        step=_step(course),
        steps=len(stages(course.strategy)),
        share=course.share,
        step_began_at=course.began_at,
        step_ends_at=None if course.finished else course.ends_at,
        extensions=course.extensions,
        analysis=None if row.analysis is None else AnalysisResult.model_validate(row.analysis),
        history=[RolloutEntry.model_validate(entry) for entry in row.history],
        created_at=row.created_at,
        created_by=row.created_by,
        finished_at=row.finished_at,
    )


def _record(
    ctx: Context,
    row: DeploymentRow,
    rollout: RolloutRow,
    course: Course,
    event: RolloutEvent,
    analysis: AnalysisResult | None,
) -> None:
    entry = RolloutEntry(
        at=ctx.clock.now(),
        event=event,
        step=_step(course),
        share=course.share,
        reason=course.reason,
        by=None if ctx.actor.kind == "system" else ctx.actor.id,
        analysis=analysis,
    )
    rollout.history = [*rollout.history, jsonable(entry)][-_MOST_ENTRIES:]
    told: dict[str, Any] = {"revision": rollout.revision, "from_revision": rollout.from_revision}
    told |= {"strategy": course.strategy.kind, "step": entry.step, "share": entry.share, "reason": entry.reason}
    if course.hold is not None:
        told["hold"] = Hold(course.hold)
    ctx.emit(f"modelops.serving.rollout_{event}", row.id, name=row.name, **told)


def _step(course: Course) -> int | None:
    return None if course.last else course.step + 1
