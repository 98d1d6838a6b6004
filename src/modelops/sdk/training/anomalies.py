"""Finders of anomalies: how they are built, and how good they are, with labels and without.

With labels the score is the area under the ROC curve of the anomaly score: the probability that an anomaly is given a higher
one than a normal row. No finder sees the labels.

Without labels nobody can say how many anomalies were found. What can be measured is how tightly a finder encloses the data:
the area over the mass-volume curve (S. Clémençon, J. Jakubowicz, "Scoring anomalies: a M-estimation formulation", 2013), that
is the probability that a held-out row is taken for more normal than a point drawn evenly from the box around all rows. Above
five columns every point of the box is far from the data, so the mean over random sets of five columns is taken (N. Goix, "How
to evaluate the quality of unsupervised anomaly detection algorithms?", 2016). Both scores lie in 0 to 1, the more the better;
0.5 is chance.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from modelops.contracts.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

Finder = Literal["isolation_forest", "lof", "one_class_svm"]
FINDERS: tuple[str, ...] = get_args(Finder)

ROC_AUC, MASS_VOLUME = "roc_auc", "mass_volume"

_COLUMNS, _DRAWS = 5, 10
_POINTS = 10_000
_SVM_ROWS = 10_000
_NEIGHBOURS = 20
_NU = 0.05


def read_numbers(table: "pa.Table", features: Sequence[str] | None, label: str | None) -> "pd.DataFrame":
    """Return the columns to learn from as floats; gaps stay NaN.

    Raises:
        InvalidInput: there is none, or one of those named is missing or holds no numbers.
    """
    import pandas as pd
    import pyarrow as pa

    def numeric(name: str) -> bool:
        kind = table.schema.field(name).type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))

    for name in features or ():
        if name not in table.column_names or not numeric(name):
            known = ", ".join(one for one in table.column_names if one != label and numeric(one))
            raise InvalidInput(f"'{name}' is no column of numbers.", hint=f"There are: {known}.")
    names = list(features or [name for name in table.column_names if name != label and numeric(name)])
    if not names:
        raise InvalidInput("The data has no column of numbers to learn from.", hint="Anomalies are found in numbers.")
    frame = pd.DataFrame({name: table.column(name).to_pandas().astype("float64") for name in names})
    empty = [name for name in names if frame[name].isna().all()]
    if empty:
        raise InvalidInput(f"The column '{empty[0]}' has no values.", hint="Name the `features` without it.")
    return frame


def read_labels(table: "pa.Table", label: str) -> "np.ndarray[Any, Any]":
    """Return which rows are anomalies, shape (rows,), True for one.

    Raises:
        InvalidInput: the column is not there, has gaps, or anything but 0 and 1.
    """
    if label not in table.column_names:
        raise InvalidInput(f"There is no column '{label}'.", hint=f"There are: {', '.join(table.column_names[:20])}.")
    values = table.column(label).to_pandas()
    if values.isna().any() or not set(values.unique()) <= {0, 1}:
        raise InvalidInput(
            f"The label '{label}' has gaps, or values other than 0 and 1.", hint="1, or true, marks an anomaly."
        )
    if values.nunique() < 2:
        raise InvalidInput(f"The label '{label}' is the same in all rows; it tells nothing.", hint="Leave it out.")
    found: np.ndarray[Any, Any] = values.to_numpy().astype(bool)
    return found


def build(algorithm: str, rows: int, *, seed: int, contamination: float | None) -> Any:
    """Return an untrained finder: a pipeline that fills gaps with medians, and scales where distances count.

    Args:
        algorithm: One of `FINDERS`.
        rows: How many it is to be trained on.
        seed: For what is random in it.
        contamination: The share of anomalies, for `predict`; scores do not depend on it, but for those of an SVM.
    """
    from sklearn.ensemble import IsolationForest
    from sklearn.impute import SimpleImputer
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import OneClassSVM

    share: Any = "auto" if contamination is None else contamination
    gaps = SimpleImputer(strategy="median", keep_empty_features=True)
    if algorithm == "isolation_forest":
        return make_pipeline(gaps, IsolationForest(contamination=share, random_state=seed))
    if algorithm == "lof":
        near = max(1, min(_NEIGHBOURS, rows - 1))
        return make_pipeline(gaps, StandardScaler(), LocalOutlierFactor(near, novelty=True, contamination=share))
    return make_pipeline(gaps, StandardScaler(), OneClassSVM(nu=contamination or _NU))


def train(algorithm: str, rows: "pd.DataFrame", *, seed: int, contamination: float | None) -> Any:
    """Return a trained finder. An SVM, whose time grows with the square of the rows, is given 10,000 of them at most."""
    if algorithm == "one_class_svm" and len(rows) > _SVM_ROWS:
        rows = rows.sample(_SVM_ROWS, random_state=seed)
    return build(algorithm, len(rows), seed=seed, contamination=contamination).fit(rows)


def score(
    algorithm: str,
    rows: "pd.DataFrame",
    held_out: "pd.DataFrame",
    labels: "np.ndarray[Any, Any] | None",
    *,
    seed: int,
    contamination: float | None,
) -> float:
    """Return how good an algorithm is that is trained on some rows, on others.

    Args:
        algorithm: One of `FINDERS`.
        rows: To train on, shape (rows, features).
        held_out: To be scored on, of the same columns.
        labels: Which of the held-out rows are anomalies; None where nobody knows. Both kinds must occur.
        seed: For what is random.
        contamination: The share of anomalies.
    """
    import numpy as np

    facts: dict[str, Any] = {"seed": seed, "contamination": contamination}
    if labels is not None:
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(labels, -train(algorithm, rows, **facts).decision_function(held_out)))
    chance = np.random.default_rng(seed)
    varied = [name for name in rows.columns if rows[name].nunique() > 1]
    if not varied:
        raise InvalidInput("All columns of the training rows are constant; there is nothing to learn.")
    sets = [varied]
    if len(varied) > _COLUMNS:
        sets = [list(chance.choice(varied, _COLUMNS, replace=False)) for _ in range(_DRAWS)]
    return float(np.mean([_mass_volume(algorithm, rows[names], held_out[names], chance, facts) for names in sets]))


def _mass_volume(
    algorithm: str, rows: "pd.DataFrame", held_out: "pd.DataFrame", chance: "np.random.Generator", facts: dict[str, Any]
) -> float:
    import numpy as np
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    both = pd.concat([rows, held_out])
    points = pd.DataFrame(chance.uniform(both.min(), both.max(), (_POINTS, rows.shape[1])), columns=rows.columns)
    finder = train(algorithm, rows, **facts)
    normal = np.concatenate([finder.decision_function(held_out), finder.decision_function(points)])
    return float(roc_auc_score(np.repeat([1, 0], [len(held_out), _POINTS]), normal))
