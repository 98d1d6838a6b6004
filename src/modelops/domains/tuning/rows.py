"""Study and trial rows: how they are found, and what is shown of them."""

import json
from collections.abc import Sequence

from sqlalchemy import Select, func, select

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.experiments import service as experiments
from modelops.domains.tuning.ledger import Entry, as_trial, read_objectives, read_space, read_values
from modelops.domains.tuning.schemas import Pruner, Sampler, Study, Trial, TrialCounts, TrialState
from modelops.domains.tuning.tables import StudyRow, TrialRow
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of

_ID = "std_"
_LIVE = (TrialState.WAITING, TrialState.RUNNING)
_ENTRY = list(Entry.__dataclass_fields__)
_STUDY = (
    "id", "project_id", "name", "description", "experiment_id", "max_trials", "max_seconds", "target", "patience",
    "max_failures", "retries", "lease_s", "tags", "state", "reason", "best_value", "best_number", "created_at", "created_by",
    "started_at", "ended_at", "revision",
)  # fmt: skip


def find_study(ctx: Context, study: str, *, lock: bool = False) -> StudyRow:
    """Find a study of the project by name, by id, or by how its id alone begins.

    Raises:
        NotFound: there is none.
        InvalidInput: the ids of several begin so.
    """
    query = ctx.query(StudyRow)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    exactly = query.where((StudyRow.name == study) | (StudyRow.id == study))
    row = ctx.session.scalars(
        exactly.order_by(StudyRow.name == study)
    ).first()  # an id stays an id, whatever others are named
    if row is None and study.startswith(_ID):
        found = list(ctx.session.scalars(query.where(StudyRow.id.startswith(study, autoescape=True)).limit(2)))
        if len(found) > 1:
            raise InvalidInput(
                f"The ids of several studies begin with '{study}'.", hint="Write more of the id, or the name."
            )
        row = found[0] if found else None
    if row is None:
        raise NotFound(f"There is no study '{study}' in this project.", hint="`mops studies list-studies` lists them.")
    return row


def as_study(ctx: Context, row: StudyRow) -> Study:
    """Return a study as it is shown."""
    return as_studies(ctx, [row])[0]


def as_studies(ctx: Context, rows: Sequence[StudyRow]) -> list[Study]:
    """Return studies as they are shown."""
    numbers = [row.number for row in rows]
    counted = (
        select(TrialRow.study_number, TrialRow.state, func.count())
        .where(TrialRow.study_number.in_(numbers), TrialRow.state.in_(_LIVE))
        .group_by(TrialRow.study_number, TrialRow.state)
    )
    live = {(number, state): count for number, state, count in ctx.session.execute(counted)}
    names = experiments.name_experiments(ctx, {row.experiment_id for row in rows})
    return [
        Study(
            **{name: getattr(row, name) for name in _STUDY},
            objectives=read_objectives(row.objectives),
            space=None if row.space is None else read_space(row.space),
            sampler=Sampler.model_validate_json(row.sampler),
            pruner=Pruner.model_validate_json(row.pruner),
            experiment=names.get(row.experiment_id, row.experiment_id),
            trials=TrialCounts(
                total=row.trials,
                waiting=live.get((row.number, TrialState.WAITING), 0),
                running=live.get((row.number, TrialState.RUNNING), 0),
                complete=row.completed,
                pruned=row.pruned,
                failed=row.failed,
            ),
        )
        for row in rows
    ]


def trials_of(study: StudyRow) -> Select[TrialRow]:
    """Select a study's trials."""
    return select(TrialRow).where(TrialRow.study_number == study.number)


def as_trials(ctx: Context, study: StudyRow, rows: Sequence[TrialRow]) -> list[Trial]:
    """Return trials as they are shown, with all that they reported."""
    values = read_values(raw_of(ctx.session), study.number, [row.number for row in rows])
    return [as_trial(_entry(row), values.get(row.number, {})) for row in rows]


def parameters_of(row: TrialRow) -> dict[str, object]:
    """Return a trial's parameters."""
    found: dict[str, object] = json.loads(row.parameters)
    return found


def _entry(row: TrialRow) -> Entry:
    return Entry(**{name: getattr(row, name) for name in _ENTRY})
