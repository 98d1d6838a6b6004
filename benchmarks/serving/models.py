"""The models that all serve, trained here and pickled once."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.serving.loads import Rows

ONE_ROW, MANY_ROWS = 64, 1_024


@dataclass(frozen=True)
class Model:
    """A fitted model, its pickle, and what to ask it: 64 requests of a row, or two of 1,024 rows."""

    name: str
    fitted: Any
    pickle: Path
    rows: Rows
    many: Rows


def train(folder: Path) -> tuple[Model, Model]:
    """Return a random forest of 100 trees and a logistic regression, fitted on breast cancer (569 rows, 30 features)."""
    table = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(table.target))
    inputs, target = table.data[order], table.target[order]
    forest = RandomForestClassifier(100, random_state=0).fit(inputs, target)
    linear = LogisticRegression(max_iter=10_000).fit(inputs, target)
    return _model("RandomForest", forest, inputs, folder), _model("LogisticRegression", linear, inputs, folder)


def sample() -> tuple[np.ndarray, list[str]]:
    """Return what the models were trained on, shape (569, 30), and the features' names."""
    table = load_breast_cancer()
    return table.data, [str(name) for name in table.feature_names]


def _model(name: str, fitted: Any, inputs: np.ndarray, folder: Path) -> Model:
    path = folder / f"{name}.pickle"
    path.write_bytes(pickle.dumps(fitted))
    labels = [int(label) for label in fitted.predict(inputs)]
    rows = inputs.tolist()
    many = Rows((rows * 4)[: 2 * MANY_ROWS], (labels * 4)[: 2 * MANY_ROWS], MANY_ROWS)
    return Model(name, fitted, path, Rows(rows[:ONE_ROW], labels[:ONE_ROW]), many)


class Constant:
    """A model that says 1 of whatever row."""

    def __call__(self, rows: Any) -> list[int]:
        return [1] * len(rows)


def constant() -> Model:
    """Return the model that does nothing."""
    rows = load_breast_cancer().data[:ONE_ROW].tolist()
    return Model("constant", Constant(), Path(), Rows(rows, [1] * ONE_ROW), Rows([], [], MANY_ROWS))
