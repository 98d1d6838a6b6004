"""What classification and regression share: parameters, folds, and the way from the best candidate to a registered model."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from modelops.contracts.schemas import Name
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.recipes.choosing import Target
from modelops.domains.training.recipes.mllib import examples as reading
from modelops.domains.training.recipes.mllib import exporting, preparing
from modelops.domains.training.recipes.mllib.examples import Examples
from modelops.domains.training.recipes.mllib.exporting import Task, check, exported
from modelops.domains.training.recipes.mllib.preparing import Preparation, prepare
from modelops.domains.training.recipes.mllib.trials import Trials, facts_of, lines, told
from modelops.domains.training.schemas import JobResult


class SupervisedParameters(Target):
    """What both recipes take."""

    model: Annotated[Name, Field(description="The name to register the best model under.")]
    folds: Annotated[int, Field(ge=2, le=50, description="Of the cross-validation.")] = 3
    train_share: Annotated[
        float | None, Field(gt=0, lt=1, description="Judge by one split instead: the share that is trained on.")
    ] = None
    trees: Annotated[int, Field(ge=1, le=10_000, description="Of a random forest.")] = 20
    rounds: Annotated[int, Field(ge=1, le=10_000, description="Of gradient boosting.")] = 20
    depth: Annotated[int, Field(ge=1, le=30, description="Of each tree, at most.")] = 5
    regularisation: Annotated[float, Field(ge=0, allow_inf_nan=False, description="Of linear models.")] = 0.0
    mixing: Annotated[
        float, Field(ge=0, le=1, description="Which: 0 is ridge (L2), 1 lasso (L1), between them an elastic net.")
    ] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the folds, and of what is random in the models.")] = 0


@dataclass(frozen=True)
class Plan:
    """What a recipe adds: how it makes an estimator for vectors of a width, which of them want scaled ones, and how what one
    predicted is scored."""

    task: Task
    algorithms: list[str]
    metric: str
    lower_is_better: bool
    scaled: frozenset[str]
    estimator: Callable[[str, int], Any]
    score: Callable[[Any], float]


class Folds:
    """The rows by fold, prepared once for all the candidates that take them so."""

    def __init__(self, examples: Examples, frame: Any, count: int) -> None:
        self._examples, self._frame, self.count = examples, frame, count
        self._made: dict[tuple[int, bool], tuple[Preparation, Any, Any]] = {}

    def pairs(self, *, scaled: bool) -> Iterator[tuple[Preparation, Any, Any]]:
        """Give for each fold how rows are prepared, the rows to train on, and those to judge by."""
        for fold in range(self.count):
            if (fold, scaled) not in self._made:
                train, test = (self._frame.where(which) for which in (f"fold != {fold}", f"fold = {fold}"))
                preparation = prepare(self._examples, train, scaled=scaled)
                ready = (preparation.apply(rows).select("features", "label").cache() for rows in (train, test))
                self._made[fold, scaled] = (preparation, *ready)
            yield self._made[fold, scaled]


def train(job: JobContext[Any], examples: Examples, plan: Plan) -> JobResult:
    """Judge the candidates, register the best one, and return the result."""
    parameters: SupervisedParameters = job.parameters
    frame = reading.with_folds(
        examples, folds=parameters.folds, train_share=parameters.train_share, seed=parameters.seed
    )
    folds = Folds(examples, frame, 1 if parameters.train_share is not None else parameters.folds)
    trials = Trials(job, plan.metric, lower_is_better=plan.lower_is_better)
    for place, name in enumerate(plan.algorithms):
        _judge(job, trials, folds, plan, name)
        job.progress(place + 1, len(plan.algorithms) + 1, name)
    board = trials.board()
    best = board[0]
    job.log(f"best: {best.name} with {plan.metric} {best.mean:.4f}")
    preparation = prepare(examples, frame, scaled=best.name in plan.scaled)
    fitted = plan.estimator(best.name, preparation.width).fit(preparation.apply(frame).select("features", "label"))
    model = exported(plan.task, fitted, preparation, examples, job.spark)
    rows, outputs = check(model, fitted, preparation, examples, examples.frame)
    job.log(f"the exported model says what Spark says on {rows.num_rows} rows")
    metrics = {plan.metric: best.mean, f"{plan.metric}_std": best.spread}
    version = job.register_model(
        parameters.model,
        model,
        sample=rows,
        outputs=outputs,
        experiment_id=best.run_id,
        metrics=metrics,
        parameters={"algorithm": best.name, **told(parameters)},
        code=source(),
        description=f"{best.name} of Spark's MLlib, chosen of {len(board)} by {plan.metric}",
    )
    return JobResult(
        run_id=best.run_id,
        model_version_id=version.id,
        metrics=metrics,
        summary={"best": best.name, "metric": plan.metric, "leaderboard": lines(board)},
    )


def source() -> bytes:
    """Return the code that trains, for its digest."""
    return "".join(inspect.getsource(module) for module in (reading, preparing, exporting)).encode()


def described(examples: Examples) -> str:
    """Return what is learned from, for the job's output."""
    classes = f", {len(examples.classes)} classes" if examples.classes is not None else ""
    told = f"{examples.rows} rows, {len(examples.names)} features{classes}"
    return told + (f"; {examples.without_target} rows without a target are left out" if examples.without_target else "")


def _judge(job: JobContext[Any], trials: Trials, folds: Folds, plan: Plan, name: str) -> None:
    parameters: SupervisedParameters = job.parameters
    by = f"{folds.count} folds" if parameters.train_share is None else f"a split at {parameters.train_share:g}"
    facts = {"algorithm": name, "folds": folds.count, "metric": plan.metric, "seed": parameters.seed}
    settings = facts_of(plan.estimator(name, 1))
    tags = {"folds": f"{by} of Spark, seed {parameters.seed}, {job.dataset_version_id}, by {parameters.target}"}

    def scores() -> Iterator[float]:
        for preparation, train_on, judge_by in folds.pairs(scaled=name in plan.scaled):
            fitted = plan.estimator(name, preparation.width).fit(train_on)
            yield plan.score(fitted.transform(judge_by))

    trials.judge(name, {**facts, **settings}, tags, scores)
