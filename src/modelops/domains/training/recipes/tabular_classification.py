"""Classification of tables: several scikit-learn algorithms on the same folds, the best one registered."""

import inspect
import math
import sys
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json, Name
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes import choosing, classifiers, frames
from modelops.domains.training.recipes.choosing import Candidate, Target, once
from modelops.domains.training.recipes.classifiers import Algorithm, build, facts_of
from modelops.domains.training.recipes.frames import Examples, read_examples
from modelops.domains.training.schemas import JobResult

Metric = Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss"]

_OF_PROBABILITIES = frozenset({"roc_auc", "log_loss"})


class ClassificationParameters(Target):
    """What the recipe takes."""

    model: Annotated[Name, Field(description="The name to register the best model under.")]
    algorithms: Annotated[list[Algorithm], AfterValidator(once), Field(min_length=1, description="What to try.")] = [
        "logistic_regression",
        "random_forest",
        "hist_gradient_boosting",
    ]
    folds: Annotated[int, Field(ge=2, le=50, description="Of the stratified cross-validation.")] = 5
    metric: Annotated[Metric, Field(description="What decides.")] = "accuracy"
    trees: Annotated[int, Field(ge=1, le=10_000, description="Of a random forest.")] = 100
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the folds, and of what is random in the models.")] = 0


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
        job.log(f"best: {best.name} with {parameters.metric} {best.mean:.4f}")
        metrics = {parameters.metric: best.mean, f"{parameters.metric}_std": best.spread}
        version = _register(job, best, examples, metrics, len(tried))
        lines: list[Json] = [candidate.line("algorithm") for candidate in board]
        return JobResult(
            run_id=best.run_id,
            model_version_id=version.id,
            metrics=metrics,
            summary={"best": best.name, "metric": parameters.metric, "leaderboard": lines},
        )


def _try(job: JobContext[ClassificationParameters], algorithm: Algorithm, examples: Examples) -> Candidate[Algorithm]:
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
    best: Candidate[Algorithm],
    examples: Examples,
    metrics: dict[str, float],
    tried: int,
) -> ModelVersion:
    """Train the best on every row, and register it."""
    parameters = job.parameters
    model = _build(best.name, examples, parameters).fit(examples.features, examples.target.to_numpy())
    return job.register_model(
        parameters.model,
        model,
        sample=examples.features,
        outputs=model.predict(examples.features),
        experiment_id=best.run_id,
        metrics=metrics,
        parameters={"algorithm": best.name, **parameters.model_dump(mode="json", exclude={"model"})},
        code=_source(),
        description=f"{best.name}, chosen of {tried} by {parameters.metric}",
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


def _merit(metric: Metric, candidate: Candidate[Algorithm]) -> float:
    """Return how good a candidate is, the more the better; one without a score comes last."""
    if math.isnan(candidate.mean):
        return -math.inf
    return -candidate.mean if metric == "log_loss" else candidate.mean


def _told(examples: Examples) -> str:
    rows, columns = examples.features.shape
    told = f"{rows} rows, {columns} features, {examples.target.nunique()} classes"
    return told + (f"; {examples.without_target} rows without a class are left out" if examples.without_target else "")


def _source() -> bytes:
    """Return the code that trains, for its digest."""
    return "".join(
        inspect.getsource(module) for module in (choosing, frames, classifiers, sys.modules[__name__])
    ).encode()


recipe = TabularClassification()
