"""Classification of tables: several scikit-learn algorithms on the same folds, the best one registered."""

import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Name, Schema
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.schemas import JobResult

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Algorithm = Literal["logistic_regression", "random_forest", "gradient_boosting", "svm", "nearest_neighbours"]
Metric = Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"]


class ClassificationParameters(Schema):
    """What the recipe takes."""

    target: Annotated[str, Field(min_length=1, description="The column to predict.")]
    model: Annotated[Name, Field(description="The name to register the best model under.")]
    algorithms: Annotated[list[Algorithm], Field(min_length=1, description="What to try.")] = [
        "logistic_regression",
        "random_forest",
        "gradient_boosting",
    ]
    features: Annotated[list[str] | None, Field(description="The columns to predict from; by default, all others.")] = (
        None
    )
    folds: Annotated[int, Field(ge=2, le=50, description="Of the stratified cross-validation.")] = 5
    metric: Annotated[Metric, Field(description="What decides.")] = "accuracy"
    trees: Annotated[int, Field(ge=1, le=10_000, description="Of a random forest.")] = 100
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


@dataclass(frozen=True)
class Candidate:
    """An algorithm's scores, a fold each."""

    algorithm: str
    run_id: str
    scores: list[float]

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return sum(self.scores) / len(self.scores)


class TabularClassification:
    """Tries algorithms by stratified cross-validation on common folds, each as a run, and registers the best."""

    name = "tabular-classification"
    description = "Tries several scikit-learn classifiers on the same folds and registers the best."
    Parameters = ClassificationParameters

    def run(self, job: JobContext[ClassificationParameters]) -> JobResult:
        """Train. Raises `InvalidInput` where the table cannot be learned from."""
        parameters = job.parameters
        features, target = _split(job.table().to_pandas(), parameters)
        job.log(f"{len(features)} rows, {features.shape[1]} features, {target.nunique()} classes")
        candidates = [_try(job, algorithm, features, target) for algorithm in parameters.algorithms]
        best = max(candidates, key=lambda candidate: candidate.mean)
        job.log(f"best: {best.algorithm} with {parameters.metric} {best.mean:.4f}")
        model = build(best.algorithm, features, parameters).fit(features, target)
        metrics = {parameters.metric: best.mean, f"{parameters.metric}_std": _spread(best.scores)}
        version = job.register_model(
            parameters.model,
            model,
            sample=features,
            outputs=model.predict(features),
            experiment_id=best.run_id,
            metrics=metrics,
            parameters={"algorithm": best.algorithm, **parameters.model_dump(mode="json", exclude={"model"})},
            code=inspect.getsource(sys.modules[__name__]).encode(),
            description=f"{best.algorithm}, chosen of {len(candidates)} by {parameters.metric}",
        )
        board = {candidate.algorithm: candidate.mean for candidate in candidates}
        return JobResult(
            run_id=best.run_id,
            model_version_id=version.id,
            metrics=metrics,
            summary={"best": best.algorithm, "metric": parameters.metric, "scores": board},
        )


def build(algorithm: str, features: "pd.DataFrame", parameters: ClassificationParameters) -> Any:
    """Return an untrained pipeline: missing values imputed, texts one-hot encoded, numbers scaled where it matters."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from sklearn.svm import SVC

    seed = parameters.seed
    models: dict[str, tuple[Any, bool]] = {
        "logistic_regression": (LogisticRegression(max_iter=5_000, random_state=seed), True),
        "random_forest": (RandomForestClassifier(parameters.trees, random_state=seed), False),
        "gradient_boosting": (HistGradientBoostingClassifier(random_state=seed), False),
        "svm": (SVC(probability=parameters.metric != "accuracy", random_state=seed), True),
        "nearest_neighbours": (KNeighborsClassifier(), True),
    }
    model, scaled = models[algorithm]
    texts = features.select_dtypes(exclude="number").columns.tolist()
    steps: list[Any] = [SimpleImputer()] if features.isna().any().any() or texts else []
    steps += [StandardScaler()] if scaled else []
    if texts:
        encode = make_pipeline(
            SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        )
        numbers = make_pipeline(*steps)
        steps = [
            make_column_transformer((encode, texts), (numbers, make_column_selector(dtype_include="number"))),
        ]
    return make_pipeline(*steps, model) if steps else model


def _try(
    job: JobContext[ClassificationParameters], algorithm: str, features: "pd.DataFrame", target: "pd.Series[Any]"
) -> Candidate:
    """Score one algorithm on every fold, as a run."""
    from sklearn.base import clone
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import StratifiedKFold

    parameters = job.parameters
    scorer = get_scorer(parameters.metric)
    folds = StratifiedKFold(parameters.folds, shuffle=True, random_state=parameters.seed)
    model = build(algorithm, features, parameters)
    scores: list[float] = []
    facts = {"algorithm": algorithm, "folds": parameters.folds, "metric": parameters.metric, "seed": parameters.seed}
    with job.start_run(algorithm, facts) as run:
        for fold, (train, test) in enumerate(folds.split(features, target)):
            fitted = clone(model).fit(features.iloc[train], target.iloc[train])
            scores.append(float(scorer(fitted, features.iloc[test], target.iloc[test])))
            run.log_metrics({f"fold_{parameters.metric}": scores[-1]}, step=fold)
        candidate = Candidate(algorithm, run.id, scores)
        run.log_metrics({parameters.metric: candidate.mean, f"{parameters.metric}_std": _spread(scores)})
    job.log(f"{algorithm}: {parameters.metric} {candidate.mean:.4f} ± {_spread(scores):.4f}")
    return candidate


def _split(table: "pd.DataFrame", parameters: ClassificationParameters) -> tuple["pd.DataFrame", "pd.Series[Any]"]:
    """Return features and target, or say what is wrong with the table."""
    columns = ", ".join(map(str, table.columns[:20]))
    if parameters.target not in table.columns:
        raise InvalidInput(f"The table has no column '{parameters.target}'.", hint=f"It has: {columns}.")
    wanted = parameters.features or [name for name in table.columns if name != parameters.target]
    missing = [name for name in wanted if name not in table.columns]
    if missing or not wanted:
        raise InvalidInput(f"The table has no column '{missing[0] if missing else ''}'.", hint=f"It has: {columns}.")
    known = table[table[parameters.target].notna()]
    target = known[parameters.target]
    counts = target.value_counts()
    if len(counts) < 2:
        raise InvalidInput(f"The target '{parameters.target}' has one class only; there is nothing to learn.")
    if counts.iloc[-1] < parameters.folds:
        raise InvalidInput(
            f"The class '{counts.index[-1]}' has {counts.iloc[-1]} rows, fewer than the {parameters.folds} folds.",
            hint="Use fewer folds, or choose as target a column of labels rather than of measurements.",
        )
    return known[wanted], target


def _spread(scores: "list[float] | np.ndarray[Any, Any]") -> float:
    mean = sum(scores) / len(scores)
    return float((sum((score - mean) ** 2 for score in scores) / len(scores)) ** 0.5)


recipe = TabularClassification()
