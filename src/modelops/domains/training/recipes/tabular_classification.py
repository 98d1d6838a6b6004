"""Classification of tables: several scikit-learn algorithms on the same folds, the best one registered."""

import inspect
import math
import sys
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json, Name, Schema
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes import classifiers, frames
from modelops.domains.training.recipes.classifiers import Algorithm, build, facts_of
from modelops.domains.training.recipes.frames import Examples, read_examples
from modelops.domains.training.schemas import JobResult

Metric = Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss"]

_OF_PROBABILITIES = frozenset({"roc_auc", "log_loss"})


def _once(names: list[str]) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"'{twice}' occurs twice")
    return names


class ClassificationParameters(Schema):
    """What the recipe takes."""

    target: Annotated[str, Field(min_length=1, description="The column to predict.")]
    model: Annotated[Name, Field(description="The name to register the best model under.")]
    algorithms: Annotated[list[Algorithm], AfterValidator(_once), Field(min_length=1, description="What to try.")] = [
        "logistic_regression",
        "random_forest",
        "hist_gradient_boosting",
    ]
    features: Annotated[
        Annotated[list[str], AfterValidator(_once), Field(min_length=1, max_length=10_000)] | None,
        Field(description="The columns to predict from; by default, all others."),
    ] = None
    folds: Annotated[int, Field(ge=2, le=50, description="Of the stratified cross-validation.")] = 5
    metric: Annotated[Metric, Field(description="What decides.")] = "accuracy"
    trees: Annotated[int, Field(ge=1, le=10_000, description="Of a random forest.")] = 100
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the folds, and of what is random in the models.")] = 0

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.features is not None and self.target in self.features:
            raise ValueError(f"the target '{self.target}' cannot be a feature too")
        return self


@dataclass(frozen=True)
class Candidate:
    """An algorithm's scores, a fold each, as the metric defines them."""

    algorithm: Algorithm
    run_id: str
    scores: list[float]

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return fmean(self.scores)

    @property
    def spread(self) -> float:
        """Return the standard deviation of the scores over the folds (of the population)."""
        return pstdev(self.scores) if all(map(math.isfinite, self.scores)) else math.nan


class TabularClassification:
    """Tries algorithms by stratified cross-validation on common folds, each as a run, and registers the best."""

    name = "tabular-classification"
    description = "Tries several scikit-learn classifiers on the same folds and registers the best."
    Parameters = ClassificationParameters

    def run(self, job: JobContext[ClassificationParameters]) -> JobResult:
        """Train. Raises `InvalidInput` where the table cannot be learned from."""
        parameters = job.parameters
        examples = read_examples(job.table(), parameters.target, parameters.features, parameters.folds)
        job.log(_told(examples))
        tried = [_try(job, algorithm, examples) for algorithm in parameters.algorithms]
        board = sorted(tried, key=lambda candidate: _merit(parameters.metric, candidate), reverse=True)
        best = board[0]
        if math.isnan(best.mean):
            raise InvalidInput(
                f"The metric '{parameters.metric}' has no value for any of the algorithms on these folds."
            )
        job.log(f"best: {best.algorithm} with {parameters.metric} {best.mean:.4f}")
        metrics = {parameters.metric: best.mean, f"{parameters.metric}_std": best.spread}
        version = _register(job, best, examples, metrics, len(tried))
        lines: list[Json] = [_line(candidate) for candidate in board]
        return JobResult(
            run_id=best.run_id,
            model_version_id=version.id,
            metrics=metrics,
            summary={"best": best.algorithm, "metric": parameters.metric, "leaderboard": lines},
        )


def _try(job: JobContext[ClassificationParameters], algorithm: Algorithm, examples: Examples) -> Candidate:
    """Score one algorithm on every fold, as a run."""
    from sklearn.base import clone
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import StratifiedKFold

    parameters = job.parameters
    metric = parameters.metric
    scorer, sign = get_scorer(_scorer_name(metric, examples.target.nunique())), -1.0 if metric == "log_loss" else 1.0
    folds = StratifiedKFold(parameters.folds, shuffle=True, random_state=parameters.seed)
    features, target = examples.features, examples.target.to_numpy()
    model = _build(algorithm, examples, parameters)
    facts = {"algorithm": algorithm, "folds": parameters.folds, "metric": metric, "seed": parameters.seed}
    scores: list[float] = []
    split = f"{parameters.folds} stratified, seed {parameters.seed}, {job.dataset_version_id}, by {parameters.target}"
    with job.start_run(algorithm, {**facts, **facts_of(model)}) as run:
        run.set_tags({"folds": split})  # runs that name the same split are tested in pairs when they are compared
        for fold, (train, test) in enumerate(folds.split(features, target)):
            fitted = clone(model).fit(features.iloc[train], target[train])
            scores.append(sign * float(scorer(fitted, features.iloc[test], target[test])))
            run.log_metrics({f"fold_{metric}": scores[-1]}, step=fold)
        candidate = Candidate(algorithm, run.id, scores)
        run.log_metrics({metric: candidate.mean, f"{metric}_std": candidate.spread})
    job.log(f"{algorithm}: {metric} {candidate.mean:.4f} ± {candidate.spread:.4f}")
    return candidate


def _register(
    job: JobContext[ClassificationParameters],
    best: Candidate,
    examples: Examples,
    metrics: dict[str, float],
    tried: int,
) -> ModelVersion:
    """Train the best on every row, and register it."""
    parameters = job.parameters
    model = _build(best.algorithm, examples, parameters).fit(examples.features, examples.target.to_numpy())
    return job.register_model(
        parameters.model,
        model,
        sample=examples.features,
        outputs=model.predict(examples.features),
        experiment_id=best.run_id,
        metrics=metrics,
        parameters={"algorithm": best.algorithm, **parameters.model_dump(mode="json", exclude={"model"})},
        code=_source(),
        description=f"{best.algorithm}, chosen of {tried} by {parameters.metric}",
    )


def _build(algorithm: Algorithm, examples: Examples, parameters: ClassificationParameters) -> Any:
    return build(
        algorithm,
        examples,
        folds=parameters.folds,
        seed=parameters.seed,
        trees=parameters.trees,
        probabilities=parameters.metric in _OF_PROBABILITIES,
    )


def _scorer_name(metric: Metric, classes: int) -> str:
    """Return what scikit-learn calls the scorer: with several classes, the area under the curve is that of one against the
    rest, averaged."""
    if metric == "roc_auc":
        return "roc_auc" if classes == 2 else "roc_auc_ovr"
    return "neg_log_loss" if metric == "log_loss" else metric


def _merit(metric: Metric, candidate: Candidate) -> float:
    """Return how good a candidate is, the more the better; one without a score comes last."""
    if math.isnan(candidate.mean):
        return -math.inf
    return -candidate.mean if metric == "log_loss" else candidate.mean


def _line(candidate: Candidate) -> Json:
    """Return a candidate's line on the leaderboard; JSON has no NaN."""
    mean, spread = (value if math.isfinite(value) else None for value in (candidate.mean, candidate.spread))
    return {"algorithm": candidate.algorithm, "run_id": candidate.run_id, "mean": mean, "std": spread}


def _told(examples: Examples) -> str:
    rows, columns = examples.features.shape
    told = f"{rows} rows, {columns} features, {examples.target.nunique()} classes"
    return told + (f"; {examples.without_target} rows without a class are left out" if examples.without_target else "")


def _source() -> bytes:
    """Return the code that trains, for its digest."""
    return "".join(inspect.getsource(module) for module in (frames, classifiers, sys.modules[__name__])).encode()


recipe = TabularClassification()
