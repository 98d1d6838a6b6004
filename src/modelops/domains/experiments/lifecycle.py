"""Runs begun and changed by the driver's own statements, for programs that make many of them.

Their events are delivered with the controller's next round: waking it for each would cost more than the run itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelops.contracts.errors import Conflict, NotFound
from modelops.contracts.ids import new_id
from modelops.domains.experiments.ingest import Batch, ParameterEntry, open_run, write_batch, write_fresh
from modelops.domains.experiments.rules import LIVE
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.experiments.searching import FoundRun, find_runs
from modelops.kernel import audit, outbox
from modelops.kernel.context import Actor, Context, project_of
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope, request_id_of
from modelops.kernel.work import Workplace

_INSERT_ENDED = (
    "INSERT INTO runs"
    " (id, project_id, experiment_id, job_id, created_by, name, status, reason, started_at, ended_at, revision)"
)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to begin. Nobody promises a heartbeat for it."""

    experiment_id: str
    started_at: datetime
    name: str | None = None
    tags: Sequence[tuple[str, str]] = field(default_factory=list)
    parameters: Sequence[ParameterEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended by the time that it is told of. Each key of a parameter or tag is there once."""

    id: str
    name: str
    status: RunStatus
    reason: str | None
    started_at: datetime
    ended_at: datetime
    batch: Batch


@dataclass(frozen=True, slots=True)
class Change:
    """What changes on a run; None stays as it is."""

    status: RunStatus | None = None
    ended_at: datetime | None = None
    name: str | None = None


async def begin_run(scope: Scope, new: NewRun) -> FoundRun:
    """Begin a run in an experiment, and return it when it is committed.

    Raises:
        NotFound: there is no such experiment in the project.
        Conflict: it is deleted.
    """
    run_id = new_id("run")
    return await scope.write(lambda raw: put_run(raw, scope, run_id, new), permission="runs.write")


def put_run(raw: Raw, scope: Scope, run_id: str, new: NewRun) -> FoundRun:
    """Begin a run within a write of the caller, who may do so (for the domains above). Raises as `begin_run`."""
    place, actor = scope.place, scope.actor
    name = new.name or f"run {run_id[-6:]}"
    project = project_of(actor)
    experiment, location = check_open(raw, actor, new.experiment_id)
    number = raw.execute(
        "INSERT INTO runs (id, project_id, experiment_id, name, status, job_id, started_at, created_by, revision)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) RETURNING number",
        (
            run_id,
            project,
            new.experiment_id,
            name,
            RunStatus.RUNNING,
            _job_of(actor),
            raw.moment(new.started_at),
            actor.id,
        ),
    ).fetchone()[0]
    write_batch(raw, number, Batch(parameters=list(new.parameters), tags=list(new.tags)))
    outbox.put(raw, place, actor, "modelops.experiments.run_started", run_id, experiment=experiment, name=name)
    audit.put(raw, place, actor, scope.operation, scope.request.url.path, request_id_of(scope.request))
    return FoundRun(number, run_id, new.experiment_id, name, "running", new.started_at, None, None, actor.id, location)


def check_open(raw: Raw, actor: Actor, experiment: str) -> tuple[str, str | None]:
    """Return an experiment's name, and where it says that its files are. Raises as `begin_run`."""
    found = _find_experiment(raw, actor, experiment)
    if found is None:
        raise NotFound(f"There is no experiment '{experiment}' in this project.")
    if found[1] is not None:
        raise Conflict(f"The experiment '{found[0]}' is deleted.", hint="Restore it first, or name another.")
    return found[0], found[2]


def _find_experiment(raw: Raw, actor: Actor, experiment: str) -> Any:
    statement = "SELECT name, deleted_at, artifact_location FROM experiments WHERE id = ? AND project_id = ?"
    return raw.execute(statement, (experiment, project_of(actor))).fetchone()


def put_ended_runs(raw: Raw, scope: Scope, experiment: str, runs: Sequence[EndedRun]) -> bool:
    """Record runs that began and ended already, within a write of the caller (for the domains above), with one audit record.

    Returns:
        False where their experiment is deleted or gone: then there are none.
    """
    found = _find_experiment(raw, scope.actor, experiment)
    if found is None or found[1] is not None:
        return False
    place, actor = scope.place, scope.actor
    shared = project_of(actor), experiment, _job_of(actor), actor.id
    values = [
        value
        for run in runs
        for value in (
            run.id,
            *shared,
            run.name,
            run.status,
            run.reason,
            raw.moment(run.started_at),
            raw.moment(run.ended_at),
        )
    ]
    rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"] * len(runs))
    numbers = dict(
        raw.execute(
            f"{_INSERT_ENDED} VALUES {rows} RETURNING id, number",
            values,
        ).fetchall()
    )
    write_fresh(raw, [(numbers[run.id], run.batch) for run in runs])
    begun = [(run.id, {"experiment": found[0], "name": run.name}) for run in runs]
    outbox.put_all(raw, place, actor, "modelops.experiments.run_started", begun)
    ended = [(run.id, {"status": str(run.status), "reason": run.reason, "name": run.name}) for run in runs]
    outbox.put_all(raw, place, actor, "modelops.experiments.run_ended", ended)
    audit.put(raw, place, actor, scope.operation, scope.request.url.path, request_id_of(scope.request))
    return True


async def change_run(scope: Scope, run: str, change: Change) -> FoundRun:
    """Change a run, whether it has ended or not, and return it as it is then. It may run again after it ended.

    Raises:
        NotFound: there is no such run in the project.
        RunDeleted: it is deleted.
    """
    return await scope.write(lambda raw: _change(raw, scope, run, change), permission="runs.write", order=run)


def _change(raw: Raw, scope: Scope, run: str, change: Change) -> FoundRun:
    before = open_run(raw, scope.actor, run, ended_too=True)
    status = before.status if change.status is None else change.status
    sets = ["status = ?", "revision = revision + 1"]
    values: list[Any] = [str(status)]
    ended_at = change.ended_at
    if ended_at is None and change.status is not None and change.status not in LIVE and before.status in LIVE:
        ended_at = scope.place.clock.now()
    if ended_at is not None or change.status in LIVE:
        sets.append("ended_at = ?")
        values.append(None if change.status in LIVE or ended_at is None else raw.moment(ended_at))
    if change.name is not None:
        sets.append("name = ?")
        values.append(change.name)
    raw.execute(f"UPDATE runs SET {', '.join(sets)} WHERE number = ?", (*values, before.number))  # noqa: S608
    [found] = find_runs(raw, scope.project_id, [run])
    if status != before.status and status not in LIVE:
        ended = "modelops.experiments.run_ended"
        outbox.put(raw, scope.place, scope.actor, ended, run, status=str(status), reason=None, name=found.name)
    audit.put(raw, scope.place, scope.actor, scope.operation, scope.request.url.path, request_id_of(scope.request))
    return found


def take_up_run(raw: Raw, scope: Scope, run: str) -> None:
    """Let a run go on under the caller, who took over what it records (for the domains above). A deleted one stays so."""
    raw.execute(
        "UPDATE runs SET status = ?, reason = NULL, ended_at = NULL, job_id = ?, revision = revision + 1"
        " WHERE id = ? AND project_id = ? AND deleted_at IS NULL",
        (RunStatus.RUNNING, _job_of(scope.actor), run, scope.project_id),
    )


def settle_run(
    raw: Raw,
    place: Workplace | Context,
    actor: Actor,
    run: str,
    status: RunStatus,
    reason: str | None = None,
    batch: Batch | None = None,
    *,
    ended_at: datetime | None = None,
) -> None:
    """Record a last batch on a run and give it a status, within a write of the caller (for the domains above).

    A deleted run stays as it is, and one that is gone is no error: what it stood for goes on without it.

    Raises:
        ParameterChanged: the batch has a parameter that is there with another value.
    """
    statement = "SELECT number, status, name, deleted_at FROM runs WHERE id = ? AND project_id = ?"
    statement += "" if raw.on_sqlite else " FOR UPDATE"
    found = raw.execute(statement, (run, project_of(actor))).fetchone()
    if found is None or found[3] is not None:
        return
    number, before, name, _ = found
    if batch is not None:
        write_batch(raw, number, batch)
    ended = None if status in LIVE else raw.moment(ended_at or place.clock.now())
    raw.execute(
        "UPDATE runs SET status = ?, reason = ?, ended_at = ?, revision = revision + 1 WHERE number = ?",
        (status, reason, ended, number),
    )
    if ended is not None and status != before:
        kind = "modelops.experiments.run_ended"
        outbox.put(raw, place, actor, kind, run, status=str(status), reason=reason, name=name)


def record_on_run(raw: Raw, actor: Actor, run: str, batch: Batch) -> None:
    """Record a batch on a run that goes on (for the domains above); on a deleted one, nothing."""
    statement = "SELECT number FROM runs WHERE id = ? AND project_id = ? AND deleted_at IS NULL"
    found = raw.execute(statement + ("" if raw.on_sqlite else " FOR UPDATE"), (run, project_of(actor))).fetchone()
    if found is not None:
        write_batch(raw, found[0], batch)


def _job_of(actor: Actor) -> str | None:
    return actor.id if actor.kind == "grant" and actor.id.startswith("job_") else None
