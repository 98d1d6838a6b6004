"""The trees of LightGBM's boosters, from what the booster tells of itself."""

from typing import Any

import numpy as np

from modelops.domains.models.compiling.forests import Forest, Tree, grow
from modelops.domains.models.compiling.scores import Link, Scores

_OBJECTIVES = {
    "regression": Link.IDENTITY,
    "regression_l1": Link.IDENTITY,
    "huber": Link.IDENTITY,
    "quantile": Link.IDENTITY,
    "mape": Link.IDENTITY,
    "poisson": Link.EXPONENTIAL,
    "gamma": Link.EXPONENTIAL,
    "tweedie": Link.EXPONENTIAL,
}


def read_lightgbm(booster: Any, classes: list[Any] | None) -> tuple[Forest, Scores] | None:
    """Return a booster's trees, and what becomes of their scores; None where it has something that is not known here.

    Args:
        booster: A `lightgbm.Booster`.
        classes: The labels of a classifier; None where predictions are what the objective gives.
    """
    told = booster.dump_model()
    scores = _scores(str(told.get("objective", "")).split(), None if classes is None else np.asarray(classes))
    if scores is None or told.get("average_output"):
        return None
    columns = told["num_tree_per_iteration"]
    trees = [_tree(one["tree_structure"]) for one in told["tree_info"]]
    known = [tree for tree in trees if tree is not None]
    if len(known) < len(trees):
        return None
    targets = [number % columns for number in range(len(known))]
    forest = grow(known, base=np.zeros(columns), targets=targets, single=False)
    return None if forest is None else (forest, scores)


def _scores(objective: list[str], classes: Any) -> Scores | None:
    name, settings = (objective[0], objective[1:]) if objective else ("", [])
    if classes is None:
        link = _OBJECTIVES.get(name)
        return None if link is None or "sqrt" in settings else Scores(link, None)
    if name == "binary" and "sigmoid:1" in settings and len(classes) == 2:
        return Scores(Link.LOGISTIC, classes, by_share=True)
    return Scores(Link.SOFTMAX, classes, by_share=True) if name == "multiclass" else None


def _tree(structure: dict[str, Any]) -> Tree | None:
    rows: list[tuple[int, float, bool, float]] = []
    children: list[list[int]] = []
    waiting: list[tuple[dict[str, Any], int, int]] = [(structure, -1, 0)]
    while waiting:
        node, parent, side = waiting.pop()
        place = len(rows)
        if parent >= 0:
            children[parent][side] = place
        children.append([-1, -1])
        if "leaf_value" in node:
            rows.append((-1, 0.0, False, node["leaf_value"]))
            continue
        to_left = _missing_goes_left(node)
        if to_left is None:
            return None
        rows.append((node["split_feature"], node["threshold"], to_left, 0.0))
        waiting += [(node["right_child"], place, 1), (node["left_child"], place, 0)]
    feature, threshold, missing, value = zip(*rows, strict=True)
    return Tree(
        feature=np.array(feature),
        threshold=np.array(threshold, dtype=np.float64),
        left=np.array([pair[0] for pair in children]),
        right=np.array([pair[1] for pair in children]),
        missing_left=np.array(missing),
        values=np.array(value, dtype=np.float64).reshape(-1, 1),
    )


def _missing_goes_left(node: dict[str, Any]) -> bool | None:
    """Tell where a missing value goes; None for a split that is not by a number, or that takes zero for missing."""
    if node["decision_type"] != "<=" or isinstance(node["threshold"], str):
        return None
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    # It is taken for a zero.
    return bool(node["threshold"] >= 0.0) if node["missing_type"] == "None" else None
