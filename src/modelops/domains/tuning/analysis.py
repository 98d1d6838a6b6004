"""What is made of a study's trials: the best, what mattered, and a report. Reads, and never writes."""

import json

import numpy as np
from sqlalchemy import func, select

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.analysis_schemas import Direction, ParameterImportance
from modelops.domains.experiments.importance import rank_parameters
from modelops.domains.experiments.pareto import pareto_front
from modelops.domains.tuning import reporting
from modelops.domains.tuning.ledger import read_objectives
from modelops.domains.tuning.rows import as_study, as_trials, parameters_of, trials_of
from modelops.domains.tuning.schemas import TrialState
from modelops.domains.tuning.tables import StudyRow, TrialRow
from modelops.kernel.context import Context

_MOST, _TOLD = 5_000, 1_000
"""How many trials an analysis looks at, and a report tells of: the latest."""


def best_trials(ctx: Context, study: StudyRow, limit: int) -> tuple[list[TrialRow], int]:
    """Return the best completed trials, best first, and how many there are to choose from or in the front."""
    objectives = read_objectives(study.objectives)
    complete = trials_of(study).where(TrialRow.state == TrialState.COMPLETE)
    if len(objectives) == 1:
        best = TrialRow.value.desc() if objectives[0].direction is Direction.MAX else TrialRow.value.asc()
        rows = ctx.session.scalars(complete.order_by(best, TrialRow.number).limit(limit)).all()
        count = select(func.count()).select_from(complete.subquery())
        return list(rows), ctx.session.scalar(count) or 0
    rows = ctx.session.scalars(complete.order_by(TrialRow.number.desc()).limit(_MOST)).all()
    if not rows:
        return [], 0
    points = np.array([json.loads(row.results or "[]") for row in rows], dtype=float)
    lower = np.array([one.direction is Direction.MIN for one in objectives])
    front = [row for row, kept in zip(rows, pareto_front(points, lower), strict=True) if kept]
    front.sort(key=lambda row: (row.value if lower[0] else -(row.value or 0.0), row.number))
    return front[:limit], len(front)


def importance(ctx: Context, study: StudyRow, metric: str | None) -> ParameterImportance:
    """Rank a study's parameters by how much an objective depends on them.

    Raises:
        InvalidInput: the study has no such objective.
    """
    names = [one.metric for one in read_objectives(study.objectives)]
    if metric is not None and metric not in names:
        raise InvalidInput(f"'{metric}' is no objective of this study.", hint=f"It has: {', '.join(names)}.")
    place = 0 if metric is None else names.index(metric)
    complete = trials_of(study).where(TrialRow.state == TrialState.COMPLETE)
    rows = ctx.session.scalars(complete.order_by(TrialRow.number.desc()).limit(_MOST)).all()
    values = [json.loads(row.results)[place] if row.results else None for row in rows]
    return rank_parameters(names[place], [parameters_of(row) for row in rows], values)


def report(ctx: Context, study: StudyRow) -> str:
    """Write a report on a study."""
    query = trials_of(study).order_by(TrialRow.number.desc()).limit(_TOLD)
    trials = as_trials(ctx, study, list(ctx.session.scalars(query))[::-1])
    aims = read_objectives(study.objectives)
    front = {row.number for row in best_trials(ctx, study, _MOST)[0]} if len(aims) > 1 else set()
    found = reporting.Found(
        study=as_study(ctx, study),
        trials=trials,
        front=front,
        importance=[importance(ctx, study, one.metric) for one in aims],
        made_at=ctx.clock.now(),
    )
    return reporting.write_report(found)
