"""The trees of LightGBM and XGBoost, from what a booster tells of itself."""

import json
from typing import Any

import numpy as np

from modelops.domains.models.compiling.forests import Forest, Tree, grow
from modelops.domains.models.compiling.scores import Link, Scores

_ZERO = float(np.float32(1e-35))
"""LightGBM reads numbers up to this, of either sign, as zero."""

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

_LINKS = {
    "binary:logistic": Link.LOGISTIC,
    "multi:softprob": Link.SOFTMAX,
    "reg:squarederror": Link.IDENTITY,
    "reg:absoluteerror": Link.IDENTITY,
    "reg:pseudohubererror": Link.IDENTITY,
    "count:poisson": Link.EXPONENTIAL,
    "reg:gamma": Link.EXPONENTIAL,
    "reg:tweedie": Link.EXPONENTIAL,
}


def read_lightgbm(model: Any, classes: list[Any] | None) -> tuple[Forest, Scores] | None:
    """Return a booster's trees, and what becomes of their scores; None where it has something that is not known here.

    Args:
        model: A `lightgbm.Booster`, or an estimator around one.
        classes: The labels of a classifier; None where predictions are what the objective gives.
    """
    told = getattr(model, "booster_", model).dump_model()
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


def read_xgboost(model: Any, classes: list[Any] | None) -> tuple[Forest, Scores] | None:
    """Return the trees of a booster, or of an estimator around one; None where something in it is not known here.

    Args:
        model: An `xgboost.Booster`, or an estimator, which stops at its best iteration where it knows one.
        classes: The labels of a classifier; None where predictions are what the objective gives.
    """
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    if not np.isnan(getattr(model, "missing", np.nan)):
        return None
    told = json.loads(bytes(booster.save_raw("json")))["learner"]
    settings, boosted = told["learner_model_param"], told["gradient_booster"]
    link = _LINKS.get(told["objective"]["name"])
    if link is None or boosted["name"] != "gbtree" or settings.get("num_target", "1") != "1":
        return None
    columns = max(1, int(settings["num_class"]))
    trees, targets = boosted["model"]["trees"], boosted["model"]["tree_info"]
    best = told["attributes"].get("best_iteration")
    if best is not None and booster is not model:
        count = (int(best) + 1) * columns * int(boosted["model"]["gbtree_model_param"]["num_parallel_tree"])
        trees, targets = trees[:count], targets[:count]
    if any(any(tree["split_type"]) for tree in trees):
        return None
    base = _margin(np.atleast_1d(np.float32(json.loads(settings["base_score"]))), link)
    known = [_short_tree(tree) for tree in trees]
    forest = grow(known, base=np.broadcast_to(base, (columns,)), targets=targets, short=True)
    named = None if classes is None else np.asarray(classes)
    return None if forest is None else (forest, Scores(link, named, by_share=named is not None))


def _margin(base: Any, link: Link) -> Any:
    """Return the score that stands for a first guess, rounded to float32, in which XGBoost sums."""
    if link is Link.LOGISTIC:
        return -np.log((np.float32(1) / base - np.float32(1)).astype(np.float64)).astype(np.float32)
    return np.log(base.astype(np.float64)).astype(np.float32) if link is Link.EXPONENTIAL else base


def _short_tree(told: dict[str, Any]) -> Tree:
    left = np.array(told["left_children"])
    values = np.array(told["split_conditions"], dtype=np.float32)
    return Tree(
        feature=np.where(left < 0, -1, told["split_indices"]),
        threshold=values,
        left=left,
        right=np.array(told["right_children"]),
        missing_left=np.array(told["default_left"], dtype=bool),
        values=values.reshape(-1, 1),
    )


def _scores(objective: list[str], classes: Any) -> Scores | None:
    name, settings = (objective[0], objective[1:]) if objective else ("", [])
    if classes is None and name == "binary" and "sigmoid:1" in settings:
        return Scores(Link.LOGISTIC, None)
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
        rows.append((node["split_feature"], _threshold(node["threshold"]), to_left, 0.0))
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


def _threshold(told: float) -> float:
    """Return a threshold that says of a number what LightGBM says, which takes those next to zero for zero."""
    if -_ZERO <= told < 0.0:
        return float(np.nextafter(-_ZERO, -np.inf))
    return _ZERO if 0.0 <= told <= _ZERO else told


def _missing_goes_left(node: dict[str, Any]) -> bool | None:
    """Tell where a missing value goes; None for a split that is not by a number, or that takes zero for missing."""
    if node["decision_type"] != "<=" or isinstance(node["threshold"], str):
        return None
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    # It is taken for a zero.
    return bool(node["threshold"] >= 0.0) if node["missing_type"] == "None" else None
