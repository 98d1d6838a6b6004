"""Comparing runs: what differs, which parameters mattered, what is on the front, and which differences are more than noise."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.analysis_rules import (
    FOLD_PREFIX,
    FOLDS_TAG,
    better,
    differences,
    read_objectives,
    share_tested,
    split_tags,
)
from modelops.domains.experiments.analysis_schemas import (
    Alike,
    ComparisonQuery,
    Difference,
    Direction,
    MetricDifference,
    Objective,
    PairedTest,
    ParameterImportance,
    ParetoFront,
    RunComparison,
    Significance,
)
from modelops.domains.experiments.importance import rank_parameters
from modelops.domains.experiments.paired import LEAST_FOLDS, LEAST_FOLDS_RANKED, compare_paired, holm
from modelops.domains.experiments.pareto import pareto_front
from modelops.domains.experiments.schemas import Run
from modelops.domains.experiments.tables import RunArtifactRow

History = Callable[[str, str], dict[int, float]]
"""The value at each step of a run's metric, by the run's id and the key."""


def compare_runs(
    session: Session, runs: list[Run], total: int, query: ComparisonQuery, history: History
) -> RunComparison:
    """Compare runs.

    Args:
        total: How many the selection has in all.

    Raises:
        InvalidInput: an objective cannot be read, or the baseline is not among the runs.
    """
    objectives = read_objectives(query.objective)
    parts = {run.id: split_tags(run.tags) for run in runs}
    parameters, same_parameters = differences({run.id: run.parameters for run in runs})
    metrics, same_metrics = differences({run.id: run.metrics for run in runs})
    data, same_data = differences({run: part[0] for run, part in parts.items()})
    code, same_code = differences({run: part[1] for run, part in parts.items()})
    tags, same_tags = differences({run: part[2] for run, part in parts.items()})
    files, same_files = differences(_files(session, runs))
    chief = objectives[0] if objectives else None
    return RunComparison(
        runs=runs,
        total=total,
        alike=Alike(
            parameters=same_parameters,
            metrics=same_metrics,
            tags=same_tags,
            data=same_data,
            code=same_code,
            files=same_files,
        ),
        parameters=_as_differences(parameters),
        metrics=[MetricDifference(key=key, values=values) for key, values in metrics.items()],
        tags=_as_differences(tags),
        data=_as_differences(data),
        code=_as_differences(code),
        files=_as_differences(files),
        objectives=objectives,
        importance=None if chief is None else _find_importance(runs, total, chief.metric),
        pareto=find_front(runs, objectives) if len(objectives) > 1 else None,
        significance=None if chief is None else find_significance(runs, chief, query.baseline, history),
    )


def find_front(runs: list[Run], objectives: list[Objective]) -> ParetoFront:
    """Part runs into those that nothing beats in every objective, the others, and those that lack a metric."""
    complete = [run for run in runs if all(not math.isnan(run.metrics.get(one.metric, math.nan)) for one in objectives)]
    points = np.array([[run.metrics[one.metric] for one in objectives] for run in complete]).reshape(
        -1, len(objectives)
    )
    lower = np.array([one.direction is Direction.MIN for one in objectives])
    inside = pareto_front(points, lower)
    known = {run.id for run in complete}
    return ParetoFront(
        objectives=objectives,
        front=[run.id for run, kept in zip(complete, inside, strict=True) if kept],
        dominated=[run.id for run, kept in zip(complete, inside, strict=True) if not kept],
        left_out=[run.id for run in runs if run.id not in known],
    )


def find_significance(runs: list[Run], objective: Objective, baseline: str | None, history: History) -> Significance:
    """Test the runs that share the baseline's folds against it.

    Raises:
        InvalidInput: the baseline is not among the runs.
    """
    base = _baseline(runs, objective, baseline)
    metric = objective.metric
    if base is None:
        return Significance(metric=metric, baseline=None, tests=[], message=f"No run has '{metric}' as a number.")
    others = [run for run in runs if run.id != base.id]
    if not others:
        return Significance(metric=metric, baseline=base.id, tests=[], message="There is no other run to test.")
    scores = _folds(base, metric, history)
    if scores is None:
        message = (
            f"'{base.name}' tells no folds, so nobody can say whether others differ from it by more than noise. Set its "
            f"tag `{FOLDS_TAG}` to a name of the split, and log '{FOLD_PREFIX}{metric}' once a fold, with the fold as step."
        )
        return Significance(metric=metric, baseline=base.id, tests=[], message=message)
    tests = [_test(run, base, metric, scores, history) for run in others]
    tested = [test for test in tests if test.p_value is not None]
    adjusted = dict(zip([t.run_id for t in tested], holm([t.p_value or 0.0 for t in tested]), strict=True))
    message = f"Corrected resampled t-test on '{metric}' against '{base.name}'; {len(tested)} of {len(tests)} share its folds."
    if baseline is None and len(tested) > 1:
        message += (
            " It was chosen as the best, which is partly luck; a baseline named beforehand is tested more fairly."
        )
    corrected = [test.model_copy(update={"adjusted": adjusted.get(test.run_id)}) for test in tests]
    return Significance(metric=metric, baseline=base.id, tests=corrected, message=message)


def _find_importance(runs: list[Run], total: int, metric: str) -> ParameterImportance:
    found = rank_parameters(metric, [run.parameters for run in runs], [run.metrics.get(metric) for run in runs])
    if len(runs) == total or not found.parameters:
        return found
    warning = f"These are {len(runs)} of {total} runs: what sets the others apart is not seen."
    return found.model_copy(update={"message": f"{found.message} {warning}"})


def _test(run: Run, base: Run, metric: str, scores: Mapping[int, float], history: History) -> PairedTest:
    if run.tags.get(FOLDS_TAG) != base.tags.get(FOLDS_TAG):
        told = f"its tag `{FOLDS_TAG}` is another" if FOLDS_TAG in run.tags else f"it has no tag `{FOLDS_TAG}`"
        return _untested(run, 0, f"No folds in common: {told}.")
    own = _folds(run, metric, history)
    if own is None or own.keys() != scores.keys():
        return _untested(run, len(own or {}), "Its folds are not those of the baseline.")
    order = sorted(scores)
    values, baseline = np.array([own[fold] for fold in order]), np.array([scores[fold] for fold in order])
    if len(order) < LEAST_FOLDS:
        return _untested(run, len(order), f"Fewer than {LEAST_FOLDS} folds tell nothing of noise.")
    if not (np.isfinite(values).all() and np.isfinite(baseline).all()):
        return _untested(run, len(order), "A fold has no number.")
    found = compare_paired(values, baseline, share_tested(base.tags, len(order)))
    return PairedTest(
        run_id=run.id,
        folds=len(order),
        difference=found.difference,
        lower=found.lower,
        upper=found.upper,
        p_value=found.p_value,
        adjusted=None,
        wilcoxon_p_value=found.wilcoxon,
        message="" if found.wilcoxon is not None else f"Signed ranks say something from {LEAST_FOLDS_RANKED} folds on.",
    )


def _untested(run: Run, folds: int, message: str) -> PairedTest:
    return PairedTest(
        run_id=run.id,
        folds=folds,
        difference=None,
        lower=None,
        upper=None,
        p_value=None,
        adjusted=None,
        wilcoxon_p_value=None,
        message=message,
    )


def _baseline(runs: list[Run], objective: Objective, named: str | None) -> Run | None:
    if named is not None:
        found = next((run for run in runs if run.id == named), None)
        if found is None:
            raise InvalidInput(f"The baseline '{named}' is none of the runs compared.", hint="Name it among the runs.")
        return found
    measured = [run for run in runs if not math.isnan(run.metrics.get(objective.metric, math.nan))]
    if not measured:
        return None
    return measured[better(objective.direction)([run.metrics[objective.metric] for run in measured])]


def _folds(run: Run, metric: str, history: History) -> dict[int, float] | None:
    """Return a run's value of each fold; None if it tells no folds."""
    if FOLDS_TAG not in run.tags:
        return None
    key = f"{FOLD_PREFIX}{metric}"
    return history(run.id, key if key in run.metrics else metric) or None


def _files(session: Session, runs: list[Run]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {run.id: {} for run in runs}
    query = select(RunArtifactRow.run_id, RunArtifactRow.path, RunArtifactRow.digest)
    for run, path, digest in session.execute(query.where(RunArtifactRow.run_id.in_(found))):
        found[run][path] = digest
    return found


def _as_differences(found: Mapping[str, dict[str, object]]) -> list[Difference]:
    return [Difference.model_validate({"key": key, "values": values}) for key, values in found.items()]
