"""Fitting stacks: what members say of rows that they were not fitted on (Wolpert 1992)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.ensembles.combining import all_labels
from modelops.domains.models.ensembles.members import Loaded
from modelops.domains.models.ensembles.predictors import share_classes, without_first_of_two


def fitted(estimator: Any, table: Any, target: Any) -> Any:
    """Return a copy of an estimator, fitted."""
    from sklearn.base import clone

    return clone(estimator).fit(table, target)


def default_final(classes: Sequence[Any] | None) -> Any:
    """Return a last model for labels, or for values."""
    from sklearn.linear_model import LogisticRegression, RidgeCV

    return RidgeCV() if classes is None else LogisticRegression()


def stack_classes(members: Sequence[Loaded]) -> list[Any] | None:
    """Return the labels of fitted members, in order; None where they give no probabilities."""
    return all_labels([one.predictor.classes or [] for one in members]) if share_classes(members) else None


def out_of_fold(
    models: Sequence[Any], table: Any, target: Any, cv: Any, labels: Sequence[str]
) -> tuple[Any, list[Any] | None]:
    """Return what copies of models say of rows that they were not fitted on, and the labels it is about.

    Args:
        models: Estimators of scikit-learn's interface, all of which classify or none.
        cv: A number of folds, or a splitter.
        labels: What errors call the models.

    Returns:
        Float64 of shape (rows, features), as `StackFeatures` has it, and the labels in order, or None for values.

    Raises:
        InvalidInput: a classifier gives no probabilities, or only some of the models classify.
    """
    from sklearn.base import is_classifier
    from sklearn.model_selection import check_cv, cross_val_predict

    classify = [is_classifier(model) for model in models]
    if len(set(classify)) > 1:
        raise InvalidInput("Some members of the stack classify, and some do not.", hint="Stack one kind or the other.")
    folds = check_cv(cv, target, classifier=classify[0])
    parts = []
    for model, label in zip(models, labels, strict=True):
        if classify[0] and not hasattr(model, "predict_proba"):
            raise InvalidInput(
                f"{label} gives no probabilities, of which a stack learns.",
                hint="Give a classifier with `predict_proba`, such as one in CalibratedClassifierCV.",
            )
        method = "predict_proba" if classify[0] else "predict"
        said = np.asarray(cross_val_predict(model, table, target, cv=folds, method=method), dtype=np.float64)
        parts.append(without_first_of_two(said) if classify[0] else said)
    return np.column_stack(parts), np.unique(target).tolist() if classify[0] else None
