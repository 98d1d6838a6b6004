"""Trees as flat arrays, as all that evaluates them here takes them, and read out of scikit-learn's models.

A forest gives raw scores: sums of leaves in float64, in the order of the trees, as the libraries sum them, so that not
even the last bit differs. What becomes of the scores is told by `scores`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelops.domains.models.compiling.scores import Link, Scores


@dataclass(frozen=True)
class Forest:
    """Trees whose nodes lie behind each other in arrays; children lie behind their parents.

    Attributes:
        feature: Which column a node looks at, shape (nodes,); -1 for a leaf.
        threshold: What the column is compared with, shape (nodes,): to the left where it is at most that, or where it is
            less than that if `strict`.
        left: The node to the left, shape (nodes,).
        right: The node to the right, shape (nodes,).
        missing_left: Whether a missing value goes to the left, shape (nodes,).
        values: What a leaf adds, shape (nodes, columns).
        roots: The first node of each tree, shape (trees,).
        targets: To which column of the scores a tree adds, shape (trees,); None where each adds to all of them.
        base: What the sums begin with, shape (columns of the scores,).
        single: Whether rows are rounded to float32 before they are compared.
        strict: Whether what equals a threshold goes to the right.
        short: Whether thresholds, leaves and sums are in float32 too.
    """

    feature: Any
    threshold: Any
    left: Any
    right: Any
    missing_left: Any
    values: Any
    roots: Any
    targets: Any
    base: Any
    single: bool
    strict: bool = False
    short: bool = False

    @property
    def columns(self) -> int:
        """Return how many columns the scores have."""
        return len(self.base)


@dataclass(frozen=True)
class Tree:
    """One tree; its nodes are counted from 0. The fields are those of `Forest`."""

    feature: Any
    threshold: Any
    left: Any
    right: Any
    missing_left: Any
    values: Any


def grow(
    trees: list[Tree], *, base: Any, targets: Any = None, single: bool = False, short: bool = False
) -> Forest | None:
    """Put trees together; None where there is none, or the children in one do not lie behind their parents.

    Those that are `short` are XGBoost's, which are `single` and `strict` too.
    """
    if not trees:
        return None
    roots = np.cumsum([0, *(len(tree.feature) for tree in trees)])[:-1]
    for tree in trees:
        inner = np.flatnonzero(tree.feature >= 0)
        if (np.minimum(tree.left[inner], tree.right[inner]) <= inner).any():
            return None
    return Forest(
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        threshold=np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        left=np.concatenate([tree.left + root for tree, root in zip(trees, roots, strict=True)]).astype(np.int64),
        right=np.concatenate([tree.right + root for tree, root in zip(trees, roots, strict=True)]).astype(np.int64),
        missing_left=np.concatenate([tree.missing_left for tree in trees]).astype(bool),
        values=np.concatenate([tree.values for tree in trees]).astype(np.float64),
        roots=roots,
        targets=None if targets is None else np.asarray(targets, dtype=np.int64),
        base=np.asarray(base, dtype=np.float64),
        single=single or short,
        strict=short,
        short=short,
    )


def read_sklearn(model: Any) -> tuple[Forest, Scores] | None:
    """Return an estimator's trees and what becomes of their scores; None where it has none that are known here."""
    from sklearn import ensemble, tree

    kind = type(model)
    if kind in (
        tree.DecisionTreeClassifier,
        tree.ExtraTreeClassifier,
        tree.DecisionTreeRegressor,
        tree.ExtraTreeRegressor,
    ):
        return _averaged(model, [model])
    if kind in (
        ensemble.RandomForestClassifier,
        ensemble.ExtraTreesClassifier,
        ensemble.RandomForestRegressor,
        ensemble.ExtraTreesRegressor,
    ):
        return _averaged(model, model.estimators_)
    if kind in (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor):
        return _boosted(model)
    if kind in (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor):
        return _histograms(model)
    return None


def _averaged(model: Any, members: list[Any]) -> tuple[Forest, Scores] | None:
    if model.n_outputs_ != 1:
        return None
    classes = getattr(model, "classes_", None)
    trees = [_tree(member.tree_, member.tree_.value[:, 0, :]) for member in members]
    width = trees[0].values.shape[1]
    forest = grow(trees, base=np.zeros(width), single=True)
    link = Link.IDENTITY if classes is None else Link.SHARES
    return None if forest is None else (forest, Scores(link, classes, divisor=len(members)))


def _boosted(model: Any) -> tuple[Forest, Scores] | None:
    classes = getattr(model, "classes_", None)
    if classes is not None and model.loss != "log_loss":
        return None
    if model.init is not None and model.init != "zero":
        return None
    stages, columns = model.estimators_.shape
    trees = [_tree(one.tree_, model.learning_rate * one.tree_.value[:, 0, :]) for one in model.estimators_.ravel()]
    base = _first_guess(model, columns)
    forest = grow(trees, base=base, targets=np.tile(np.arange(columns), stages), single=True)
    if classes is None:
        scores = Scores(Link.IDENTITY, None)
    else:
        scores = Scores(Link.LOGISTIC if columns == 1 else Link.SOFTMAX, classes, positive_at_zero=True)
    return None if forest is None else (forest, scores)


def _first_guess(model: Any, columns: int) -> Any:
    if model.init == "zero":
        return np.zeros(columns)
    # A constant, whatever the row.
    return np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0])


def _histograms(model: Any) -> tuple[Forest, Scores] | None:
    classes = getattr(model, "classes_", None)
    trees, targets = [], []
    for stage in model._predictors:
        for column, predictor in enumerate(stage):
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                return None
            is_leaf = nodes["is_leaf"].astype(bool)
            trees.append(
                Tree(
                    feature=np.where(is_leaf, -1, nodes["feature_idx"]),
                    threshold=nodes["num_threshold"],
                    left=nodes["left"].astype(np.int64),
                    right=nodes["right"].astype(np.int64),
                    missing_left=nodes["missing_go_to_left"].astype(bool),
                    values=nodes["value"].reshape(-1, 1),
                )
            )
            targets.append(column)
    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)
    forest = grow(trees, base=base, targets=targets, single=False)
    if classes is not None:
        link = Link.LOGISTIC if len(base) == 1 else Link.SOFTMAX
    elif model.loss in ("squared_error", "absolute_error", "quantile"):
        link = Link.IDENTITY
    else:
        link = Link.EXPONENTIAL
    return None if forest is None else (forest, Scores(link, classes))


def _tree(tree: Any, values: Any) -> Tree:
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
    return Tree(
        feature=np.where(tree.children_left < 0, -1, tree.feature),
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        missing_left=np.asarray(missing).astype(bool),
        values=values,
    )
