"""The steps of a training pipeline. They run in workers, which have the product installed."""

import math
from collections.abc import Iterator
from contextlib import suppress
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, ValidationError

from modelops.contracts.errors import AlreadyExists, InvalidInput
from modelops.contracts.schemas import Json, Schema
from modelops.domains.models.schemas import ModelVersion
from modelops.sdk.pipelines import step
from modelops.sdk.step_context import step_context
from modelops.sdk.training import anomalies

if TYPE_CHECKING:
    import numpy as np

CLASSIFIERS = ("logistic_regression", "random_forest", "hist_gradient_boosting", "svm", "nearest_neighbours")
Metric = Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc"]


class Options(Schema):
    """How is trained and scored.

    `target` is the column that a classifier learns; `label` marks known anomalies (1), by which finders are scored and from
    which they never learn. `metric` decides among classifiers.
    """

    target: str | None = None
    label: str | None = None
    features: list[str] | None = None
    metric: Metric = "accuracy"
    validation_split: float = Field(0.2, gt=0, lt=1)
    folds: int = Field(5, ge=2, le=50)
    contamination: float | None = Field(None, gt=0, le=0.5)
    trees: int = Field(100, ge=1, le=10_000)
    seed: int = Field(0, ge=0, lt=2**32)


class Loaded(NamedTuple):
    """The two parts of the data, and which version it is."""

    train: pa.Table
    validation: pa.Table
    dataset_version_id: str


class Registered(NamedTuple):
    """The version of the best model, and the whole leaderboard."""

    model: ModelVersion
    result: dict[str, Any]


def read_options(options: dict[str, Any]) -> Options:
    """Return the options.

    Raises:
        InvalidInput: one is unknown or out of range.
    """
    try:
        return Options.model_validate(options)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise InvalidInput(f"The option '{'.'.join(map(str, first['loc']))}': {first['msg']}.") from None


@step
def load(data_source: str, options: dict[str, Any]) -> Loaded:
    """Load the dataset, and set a part of it aside for validation."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    chosen, client = read_options(options), step_context().client
    table = client.data.load_table(data_source)
    version = _version_of(data_source)
    column = chosen.target or chosen.label
    if chosen.target is not None and chosen.target in table.column_names:
        table = table.filter(table.column(chosen.target).is_valid())
    if table.num_rows < 2 * chosen.folds:
        raise InvalidInput(
            f"'{data_source}' has {table.num_rows} rows, too few for {chosen.folds} folds.", hint="Use fewer `folds`."
        )
    by = None if column is None or column not in table.column_names else table.column(column).to_pandas().to_numpy()
    try:
        first, second = train_test_split(
            np.arange(table.num_rows), test_size=chosen.validation_split, random_state=chosen.seed, stratify=by
        )
    except ValueError as wrong:
        raise InvalidInput(f"'{data_source}' cannot be divided by '{column}': {wrong}") from None
    return Loaded(table.take(np.sort(first)), table.take(np.sort(second)), version)


@step
def evaluate(
    algorithm: str, train: pa.Table, validation: pa.Table, options: dict[str, Any], experiment: str
) -> dict[str, Any]:
    """Score an algorithm by cross-validation on one part of the data, and once on the part set aside; each is a run."""
    from modelops.domains.experiments.schemas import MetricPoint

    chosen, client = read_options(options), step_context().client
    scorer = (
        _Anomalies(algorithm, train, validation, chosen)
        if algorithm in anomalies.FINDERS
        else _Classes(algorithm, train, validation, chosen)
    )
    with suppress(AlreadyExists):
        client.experiments.create_experiment(experiment)
    run = client.experiments.create_run(
        experiment, name=algorithm, parameters={"algorithm": algorithm, **chosen.model_dump(mode="json")}
    )
    scores = list(scorer.folds())
    found = scorer.held_out()
    metrics = {f"cv_{scorer.metric}": fmean(scores), f"cv_{scorer.metric}_std": pstdev(scores), scorer.metric: found}
    # One moment for all: an attempt that is made again sends the same.
    points = [
        MetricPoint(key=f"fold_{scorer.metric}", value=score, step=at, timestamp=run.started_at)
        for at, score in enumerate(scores)
    ]
    points += [MetricPoint(key=key, value=value, step=0, timestamp=run.started_at) for key, value in metrics.items()]
    client.experiments.log_batch(run.id, metrics=points)
    client.experiments.update_run(run.id, status="finished")
    step_context().log(f"{algorithm}: {scorer.metric} {found:.4f} held out, {fmean(scores):.4f} in {len(scores)} folds")
    return {
        "algorithm": algorithm,
        "score_name": scorer.metric,
        "score": found,
        "cv_score": fmean(scores),
        "cv_std": pstdev(scores),
        "run_id": run.id,
    }


@step
def choose(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the candidates in order by cross-validation alone: the part set aside has no say, so its score stays honest.

    Raises:
        InvalidInput: they were scored in different ways, or none has a score.
    """
    names = {one["score_name"] for one in candidates}
    if len(names) != 1:
        raise InvalidInput(f"The candidates are scored by {' and '.join(sorted(names))}, which do not compare.")
    scored = [one for one in candidates if math.isfinite(one["cv_score"])]
    if not scored:
        raise InvalidInput("No algorithm has a score on this data.")
    return sorted(scored, key=lambda one: -one["cv_score"])


@step
def register(
    candidates: list[dict[str, Any]],
    train: pa.Table,
    validation: pa.Table,
    dataset_version_id: str,
    options: dict[str, Any],
    model: str,
) -> Registered:
    """Train the best once more, on the part it was scored with, and register it."""
    from modelops.sdk.registry import ModelRegistry

    chosen, best = read_options(options), candidates[0]
    algorithm, metric = best["algorithm"], best["score_name"]
    kind = _Anomalies if algorithm in anomalies.FINDERS else _Classes
    trained, sample = kind(algorithm, train, validation, chosen).trained()
    version = ModelRegistry(step_context().client).register_model(
        model,
        trained,
        best["run_id"],
        sample=sample,
        outputs=trained.predict(sample),
        metrics={metric: best["score"], f"cv_{metric}": best["cv_score"], f"cv_{metric}_std": best["cv_std"]},
        parameters={"algorithm": algorithm, **chosen.model_dump(mode="json")},
        dataset_version_id=dataset_version_id,
        description=f"{algorithm}, chosen of {len(candidates)} by {metric} in {chosen.folds} folds",
    )
    told: dict[str, Json] = {
        "model": version.name,
        "version": version.version,
        "model_version_id": version.id,
        "dataset_version_id": dataset_version_id,
    }
    return Registered(version, {"candidates": candidates, **told})


class _Classes:
    """A classifier on this data. Higher scores are better for every metric that can be chosen."""

    def __init__(self, algorithm: str, train: pa.Table, validation: pa.Table, options: Options) -> None:
        from modelops.domains.training.recipes.classifiers import build
        from modelops.domains.training.recipes.frames import read_examples

        if algorithm not in CLASSIFIERS:
            known = ", ".join([*anomalies.FINDERS, *CLASSIFIERS])
            raise InvalidInput(f"There is no algorithm '{algorithm}'.", hint=f"There are: {known}.")
        if options.target is None:
            raise InvalidInput(f"'{algorithm}' needs a `target`.", hint="Name the column with the classes.")
        self.metric = options.metric
        self._options, self._count = options, train.num_rows
        both = read_examples(
            pa.concat_tables([train, validation], promote_options="default"),
            options.target,
            options.features,
            options.folds,
        )
        self._features, self._target = both.features, both.target.to_numpy()
        named: Any = algorithm
        self._model = build(
            named,
            both,
            folds=options.folds,
            seed=options.seed,
            trees=options.trees,
            probabilities=options.metric == "roc_auc",
        )

    def folds(self) -> Iterator[float]:
        """Score it on each fold of the training part."""
        from sklearn.base import clone
        from sklearn.model_selection import StratifiedKFold

        features, target = self._features.iloc[: self._count], self._target[: self._count]
        divided = StratifiedKFold(self._options.folds, shuffle=True, random_state=self._options.seed)
        for train, test in divided.split(features, target):
            yield self._score(
                clone(self._model).fit(features.iloc[train], target[train]), features.iloc[test], target[test]
            )

    def held_out(self) -> float:
        """Score it on the part set aside."""
        return self._score(self.trained()[0], self._features.iloc[self._count :], self._target[self._count :])

    def trained(self) -> tuple[Any, Any]:
        """Return it, trained on the training part, and that part's features."""
        from sklearn.base import clone

        features = self._features.iloc[: self._count]
        return clone(self._model).fit(features, self._target[: self._count]), features

    def _score(self, model: Any, features: Any, target: "np.ndarray[Any, Any]") -> float:
        from sklearn.metrics import get_scorer

        several = self.metric == "roc_auc" and len(model.classes_) > 2
        return float(get_scorer("roc_auc_ovr" if several else self.metric)(model, features, target))


class _Anomalies:
    """A finder of anomalies on this data."""

    def __init__(self, algorithm: str, train: pa.Table, validation: pa.Table, options: Options) -> None:
        self._algorithm = algorithm
        self._facts: dict[str, Any] = {"seed": options.seed, "contamination": options.contamination}
        self._folds = options.folds
        self._train = anomalies.read_numbers(train, options.features, options.label)
        self._held_out = anomalies.read_numbers(validation, list(self._train.columns), options.label)
        self._labels = None if options.label is None else anomalies.read_labels(train, options.label)
        self._held_labels = None if options.label is None else anomalies.read_labels(validation, options.label)
        self.metric = anomalies.MASS_VOLUME if options.label is None else anomalies.ROC_AUC

    def folds(self) -> Iterator[float]:
        """Score it on each fold of the training part; with labels, each fold has its share of anomalies."""
        from sklearn.model_selection import KFold, StratifiedKFold

        kind = KFold if self._labels is None else StratifiedKFold
        divided = kind(self._folds, shuffle=True, random_state=self._facts["seed"])
        if self._labels is not None and self._labels.sum() < self._folds:
            raise InvalidInput(
                f"There are {int(self._labels.sum())} known anomalies, fewer than the {self._folds} folds.",
                hint="Use fewer `folds`, or leave the `label` out.",
            )
        for train, test in divided.split(self._train, self._labels):
            labels = None if self._labels is None else self._labels[test]
            rows, held_out = self._train.iloc[train], self._train.iloc[test]
            yield anomalies.score(self._algorithm, rows, held_out, labels, **self._facts)

    def held_out(self) -> float:
        """Score it on the part set aside."""
        return anomalies.score(self._algorithm, self._train, self._held_out, self._held_labels, **self._facts)

    def trained(self) -> tuple[Any, Any]:
        """Return it, trained on the training part, and that part."""
        return anomalies.train(self._algorithm, self._train, **self._facts), self._train


def _version_of(source: str) -> str:
    from modelops.domains.data.rules import parse_ref

    if source.startswith("dsv_"):
        return source
    name, version = parse_ref(source)
    return step_context().client.data.get_dataset_version(name, version or "latest").id
