"""Runs begun and changed by the driver's own statements, for programs that make many of them.

Their events are delivered with the controller's next round: waking it for each would cost more than the run itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelops.contracts.errors import Conflict, NotFound
from modelops.contracts.ids import new_id
from modelops.domains.experiments.ingest import Batch, ParameterEntry, open_run, write_batch
from modelops.domains.experiments.rules import LIVE
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.experiments.searching import FoundRun, find_runs
from modelops.kernel import audit, outbox
from modelops.kernel.context import Actor, Context, project_of
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope, request_id_of
from modelops.kernel.work import Workplace


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to begin. Nobody promises a heartbeat for it."""

    experiment_id: str
    started_at: datetime
    name: str | None = None
    tags: Sequence[tuple[str, str]] = field(default_factory=list)
    parameters: Sequence[ParameterEntry] = field(default_factory=list)


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
    experiment = raw.execute(
        "SELECT name, deleted_at, artifact_location FROM experiments WHERE id = ? AND project_id = ?",
        (new.experiment_id, project),
    ).fetchone()
    if experiment is None:
        raise NotFound(f"There is no experiment '{new.experiment_id}' in this project.")
    if experiment[1] is not None:
        raise Conflict(f"The experiment '{experiment[0]}' is deleted.", hint="Restore it first, or name another.")
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
    outbox.put(raw, place, actor, "modelops.experiments.run_started", run_id, experiment=experiment[0], name=name)
    audit.put(raw, place, actor, scope.operation, scope.request.url.path, request_id_of(scope.request))
    location = experiment[2]
    return FoundRun(number, run_id, new.experiment_id, name, "running", new.started_at, None, None, actor.id, location)


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
    ended = None if status in LIVE else raw.moment(place.clock.now())
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
