"""Candidates, judged one after the other, each as a run, with a checkpoint after each: a later attempt goes on from it."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json, Schema
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes.choosing import Candidate


class Trials:
    """The candidates of a job.

    Args:
        job: The job.
        metric: What they are judged by.
        lower_is_better: Whether that is an error.
    """

    def __init__(self, job: JobContext[Any], metric: str, *, lower_is_better: bool = False) -> None:
        self._job, self._metric, self._sign = job, metric, -1.0 if lower_is_better else 1.0
        self._done = {one.name: one for one in _restored(job)}
        self.judged: list[Candidate[str]] = []

    def judge(
        self, name: str, facts: Mapping[str, Any], tags: Mapping[str, str], scores: Callable[[], Iterable[float]]
    ) -> None:
        """Judge a candidate, unless an earlier attempt did."""
        if name in self._done:
            self.judged.append(self._done[name])
            self._job.log(f"{name}: judged by an earlier attempt, {self._metric} {self._done[name].mean:.4f}")
            return
        found: list[float] = []
        with self._job.start_run(name, facts) as run:
            run.set_tags(tags)
            for fold, score in enumerate(scores()):
                found.append(score)
                run.log_metrics({f"fold_{self._metric}": score}, step=fold)
            candidate = Candidate(name, run.id, found)
            run.log_metrics({self._metric: candidate.mean, f"{self._metric}_std": candidate.spread})
        self.judged.append(candidate)
        self._job.log(f"{name}: {self._metric} {candidate.mean:.4f} ± {candidate.spread:.4f}")
        said = json.dumps([asdict(one) for one in self.judged])
        self._job.checkpoint(said.encode(), len(self.judged))

    def board(self) -> list[Candidate[str]]:
        """Return the candidates, the best first.

        Raises:
            InvalidInput: the metric has no value for any of them.
        """
        ordered = sorted(self.judged, key=self._merit, reverse=True)
        if math.isnan(ordered[0].mean):
            raise InvalidInput(f"The metric '{self._metric}' has no value for any of the candidates on this data.")
        return ordered

    def _merit(self, candidate: Candidate[str]) -> float:
        return -math.inf if math.isnan(candidate.mean) else self._sign * candidate.mean


def lines(board: Iterable[Candidate[str]]) -> list[Json]:
    """Return the lines of the leaderboard."""
    return [one.line("candidate") for one in board]


def facts_of(estimator: Any) -> dict[str, Any]:
    """Return what an estimator of MLlib's is set to, for its run: texts, numbers and truth values."""
    return {
        f"{type(estimator).__name__}.{parameter.name}": value
        for parameter, value in estimator.extractParamMap().items()
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    }


def told(parameters: Schema) -> dict[str, Any]:
    """Return a recipe's parameters as they are kept with a model."""
    return parameters.model_dump(mode="json", exclude={"model"})


def _restored(job: JobContext[Any]) -> list[Candidate[str]]:
    last = job.restore() if job.attempt > 1 else None
    return [Candidate(**one) for one in json.loads(last.read())] if last is not None else []
