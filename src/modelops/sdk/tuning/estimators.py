"""Cross-validation as an objective: a fold is a step, so that pruners see each."""

from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv

from modelops.sdk.tuning.pruned import TrialPruned


class CrossValidated:
    """An objective that returns an estimator's mean score over folds, and reports the mean so far after each.

    Args:
        estimator: It is cloned for each fold.
        inputs: Shape (rows, columns).
        targets: Shape (rows,).
        cv: Folds, as scikit-learn takes them. They are the same for each trial.
        scoring: A scorer or its name; by default the estimator's own.
    """

    def __init__(self, estimator: Any, inputs: Any, targets: Any, *, cv: Any = 5, scoring: Any = None) -> None:
        self.estimator = estimator
        self.inputs, self.targets = inputs, targets
        self.scorer = check_scoring(estimator, scoring=scoring)
        folds = check_cv(cv, targets, classifier=is_classifier(estimator))
        self.folds = list(folds.split(inputs, targets))

    def __call__(self, trial: Any) -> float:
        """Return the mean score of the trial's parameters."""
        scores: list[float] = []
        for fold, (train, test) in enumerate(self.folds):
            model = clone(self.estimator).set_params(**trial.params)
            model.fit(_rows(self.inputs, train), _rows(self.targets, train))
            scores.append(float(self.scorer(model, _rows(self.inputs, test), _rows(self.targets, test))))
            trial.report(float(np.mean(scores)), fold)
            if fold + 1 < len(self.folds) and trial.should_prune():
                raise TrialPruned
        trial.set_user_attr("scores", scores)
        return float(np.mean(scores))


def _rows(table: Any, places: Any) -> Any:
    return table.iloc[places] if hasattr(table, "iloc") else np.asarray(table)[places]
