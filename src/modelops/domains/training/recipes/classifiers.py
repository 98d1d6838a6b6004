"""The classifiers to choose from: pipelines from a frame's own columns to a class."""

import math
from typing import TYPE_CHECKING, Any, Literal

from modelops.contracts.errors import InvalidInput
from modelops.domains.training.recipes.frames import Examples, text_columns

if TYPE_CHECKING:
    import pandas as pd

Algorithm = Literal["logistic_regression", "random_forest", "hist_gradient_boosting", "svm", "nearest_neighbours"]

MOST_CATEGORIES = 100
"""Of one text column; the rarer ones are taken together."""

_SCALED = frozenset({"logistic_regression", "svm", "nearest_neighbours"})
_TAKES_GAPS = frozenset({"hist_gradient_boosting"})
_NEIGHBOURS = 5
_CALIBRATION_FOLDS = 5


def build(algorithm: Algorithm, examples: Examples, *, folds: int, seed: int, trees: int, probabilities: bool) -> Any:
    """Return an untrained estimator, a pipeline where the columns need one.

    Gaps in numbers are filled with the median, unless the algorithm knows them; texts are one-hot encoded, a missing one as a
    category of its own; numbers are scaled where it matters. Tables without gaps and texts get no such steps.

    Args:
        algorithm: Which.
        examples: What it is to learn from.
        folds: How many folds it is judged by; it is trained on all but one.
        seed: For what is random in it.
        trees: Of a random forest.
        probabilities: Whether it must tell class probabilities.

    Raises:
        InvalidInput: there are too few rows for it.
    """
    from sklearn.pipeline import make_pipeline

    steps = _steps(algorithm, examples.features)
    model = _model(algorithm, examples, folds=folds, seed=seed, trees=trees, probabilities=probabilities)
    return make_pipeline(*steps, model) if steps else model


def facts_of(estimator: Any) -> dict[str, Any]:
    """Return what an estimator's last step is set to, for its run: texts, numbers and truth values."""
    model = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return {
        f"{type(model).__name__}.{name}": value
        for name, value in model.get_params(deep=False).items()
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    }


def _steps(algorithm: str, features: "pd.DataFrame") -> list[Any]:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = text_columns(features)
    numbers = [name for name in features.columns if name not in texts]
    steps: list[Any] = []
    if numbers and algorithm not in _TAKES_GAPS and features[numbers].isna().any().any():
        steps.append(SimpleImputer(strategy="median", keep_empty_features=True))
    if numbers and algorithm in _SCALED:
        steps.append(StandardScaler())
    if not texts:
        return steps
    encode = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False)
    return [make_column_transformer((encode, texts), (make_pipeline(*steps) if steps else "passthrough", numbers))]


def _model(algorithm: str, examples: Examples, *, folds: int, seed: int, trees: int, probabilities: bool) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    if algorithm == "logistic_regression":
        return LogisticRegression(max_iter=5_000, random_state=seed)
    if algorithm == "random_forest":
        return RandomForestClassifier(trees, random_state=seed)
    if algorithm == "hist_gradient_boosting":
        return HistGradientBoostingClassifier(random_state=seed)
    if algorithm == "nearest_neighbours":
        trained_on = len(examples.target) - math.ceil(len(examples.target) / folds)
        return KNeighborsClassifier(min(_NEIGHBOURS, trained_on))
    return _svm(examples, folds, seed, probabilities)


def _svm(examples: Examples, folds: int, seed: int, probabilities: bool) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    if not probabilities:
        return SVC(random_state=seed)
    fewest = int(examples.target.value_counts().iloc[-1])
    trained_on = fewest - math.ceil(fewest / folds)
    if trained_on < 2:
        raise InvalidInput(
            f"A class has {fewest} rows, too few to estimate the probabilities of an SVM.",
            hint="Leave `svm` out, or choose a metric that needs none, such as accuracy.",
        )
    return CalibratedClassifierCV(SVC(random_state=seed), cv=min(_CALIBRATION_FOLDS, trained_on), ensemble=False)
