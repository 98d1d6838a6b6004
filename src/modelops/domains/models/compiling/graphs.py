"""Graphs: trees as ONNX, in float64 from the threshold to the sum; XGBoost's in float32, as XGBoost has them.

The operator that converters use for trees sums in float32, which moves labels where shares tie; `TreeEnsemble` (of
ai.onnx.ml 5) keeps float64. In it a leaf adds to one column only, so a tree with several is written once for each.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelops.domains.models.compiling.forests import Forest
from modelops.domains.models.compiling.sessions import RAW, ROWS

OPSETS = {"": 17, "ai.onnx.ml": 5}

_IR_VERSION = 10
_AT_MOST, _LESS = 0, 1
_EXACT = 2.0**20
_MOST_NODES = 2_000_000


class TooLarge(Exception):
    """Says that a forest is too large for a graph."""


def forest_graph(forest: Forest, features: int) -> Any:
    """Return a model from `rows`, float64 of shape (rows, features), to raw scores `raw`, of shape (rows, columns)."""
    graph = helper.make_graph(
        forest_nodes(forest, ROWS),
        "forest",
        [helper.make_tensor_value_info(ROWS, TensorProto.DOUBLE, [None, features])],
        [_scores(forest)],
        initializer=_constants(forest),
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


def append_forest(model: Any, forest: Forest) -> None:
    """Put a forest behind a graph whose only output is a float64 matrix, of what the forest takes."""
    (last,) = model.graph.output
    model.graph.node.extend(forest_nodes(forest, last.name))
    model.graph.initializer.extend(_constants(forest))
    del model.graph.output[:]
    model.graph.output.append(_scores(forest))
    for opset in [one for one in model.opset_import if one.domain == "ai.onnx.ml"]:
        model.opset_import.remove(opset)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", OPSETS["ai.onnx.ml"]))
    onnx.checker.check_model(model)


def forest_nodes(forest: Forest, source: str) -> list[Any]:
    """Return the nodes from a float64 matrix to the scores."""
    nodes = []
    if forest.single:
        nodes.append(helper.make_node("Cast", [source], ["forest_float32"], to=TensorProto.FLOAT))
        source = "forest_float32"
        if not forest.short:
            nodes.append(helper.make_node("Cast", [source], ["forest_float64"], to=TensorProto.DOUBLE))
            source = "forest_float64"
    complement = shares_sum_exactly(forest)
    columns = forest.columns if forest.targets is None and not complement else 1
    if len(forest.feature) * columns > _MOST_NODES:
        raise TooLarge(f"It has {len(forest.feature):,} nodes for {columns} columns, too many for a graph.")
    ensemble = _Ensemble(forest, only_second=complement).node(source, "forest_second" if complement else RAW)
    nodes.append(ensemble)
    if complement:
        nodes.append(helper.make_node("Sub", ["forest_whole", "forest_second"], ["forest_first"]))
        nodes.append(helper.make_node("Concat", ["forest_first", "forest_second"], [RAW], axis=1))
    return nodes


def shares_sum_exactly(forest: Forest) -> bool:
    """Tell whether the first of two classes' sums is exactly the number of trees less the second's.

    It is where no sum is ever rounded: every share is a multiple of 2^-20, as in trees that were grown to pure leaves.
    """
    if forest.targets is not None or forest.columns != 2 or forest.base.any() or len(forest.roots) >= _EXACT:
        return False
    leaves = forest.values[forest.feature < 0]
    scaled = leaves * _EXACT
    return bool((scaled == np.floor(scaled)).all() and (leaves.sum(axis=1) == 1.0).all())


def _scores(forest: Forest) -> Any:
    kind = TensorProto.FLOAT if forest.short else TensorProto.DOUBLE
    return helper.make_tensor_value_info(RAW, kind, [None, None])


def _constants(forest: Forest) -> list[Any]:
    whole = np.array([float(len(forest.roots))])
    return [numpy_helper.from_array(whole, "forest_whole")] if shares_sum_exactly(forest) else []


@dataclass
class _Ensemble:
    """The attributes of a `TreeEnsemble`, filled a tree after the other."""

    forest: Forest
    only_second: bool
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    branches: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})
    ends: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})
    roots: list[int] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)

    def node(self, source: str, result: str) -> Any:
        forest = self.forest
        columns = [1] if self.only_second else list(range(forest.columns))
        for target, column in enumerate(columns):
            if forest.base[column] != 0.0:
                self._constant(target, forest.base[column])
        stops = np.append(forest.roots[1:], len(forest.feature))
        for number, (root, stop) in enumerate(zip(forest.roots.tolist(), stops.tolist(), strict=True)):
            if forest.targets is not None:
                self._tree(root, stop, 0, int(forest.targets[number]))
                continue
            for target, column in enumerate(columns):
                self._tree(root, stop, column, target)
        mode, kind = _LESS if forest.strict else _AT_MOST, np.float32 if forest.short else np.float64
        return helper.make_node(
            "TreeEnsemble",
            [source],
            [result],
            domain="ai.onnx.ml",
            n_targets=len(columns),
            aggregate_function=1,  # the sum
            post_transform=0,
            nodes_featureids=self.features,
            nodes_splits=numpy_helper.from_array(np.array(self.splits, dtype=kind)),
            nodes_modes=numpy_helper.from_array(np.full(len(self.features), mode, dtype=np.uint8)),
            nodes_truenodeids=self.branches[True],
            nodes_falsenodeids=self.branches[False],
            nodes_trueleafs=self.ends[True],
            nodes_falseleafs=self.ends[False],
            nodes_missing_value_tracks_true=self.missing,
            tree_roots=self.roots,
            leaf_targetids=self.leaf_targets,
            leaf_weights=numpy_helper.from_array(np.array(self.leaf_weights, dtype=kind)),
        )

    def _tree(self, root: int, stop: int, column: int, target: int) -> None:
        """Write a tree; what ends in equal leaves whichever way it goes is one leaf."""
        forest = self.forest
        feature, left, right = (part[root:stop].tolist() for part in (forest.feature, forest.left, forest.right))
        value: list[float | None] = forest.values[root:stop, column].tolist()
        for node in range(stop - root - 1, -1, -1):
            if feature[node] >= 0:
                below = value[left[node] - root], value[right[node] - root]
                value[node] = below[0] if below[0] == below[1] else None
        only = value[0]
        if only is not None:
            self._constant(target, only)
            return
        inner, waiting = [], [0]
        while waiting:
            node = waiting.pop()
            inner.append(node)
            waiting += [to - root for to in (right[node], left[node]) if value[to - root] is None]
        place = {node: len(self.features) + index for index, node in enumerate(inner)}
        self.roots.append(len(self.features))
        for node in inner:
            self.features.append(feature[node])
            self.splits.append(float(forest.threshold[root + node]))
            self.missing.append(int(forest.missing_left[root + node]))
            for side, to in ((True, left[node] - root), (False, right[node] - root)):
                self._branch(side, place.get(to), target, value[to])

    def _branch(self, side: bool, place: int | None, target: int, value: float | None) -> None:
        self.ends[side].append(int(place is None))
        self.branches[side].append(len(self.leaf_targets) if place is None else place)
        if place is None:
            self.leaf_targets.append(target)
            self.leaf_weights.append(0.0 if value is None else value)

    def _constant(self, target: int, value: float) -> None:
        """Write a tree that adds the same whatever the row; the operator has no trees without a node."""
        self.roots.append(len(self.features))
        self.features.append(0)
        self.splits.append(0.0)
        self.missing.append(0)
        for side in (True, False):
            self._branch(side, None, target, value)
