"""Models as ONNX graphs: trees by this package, what comes before them and all else by skl2onnx, in float64."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelops.domains.models.compiling.graphs import OPSETS, TooLarge, append_forest, forest_graph
from modelops.domains.models.compiling.plans import Plan
from modelops.domains.models.compiling.sessions import FEATURES, ROWS


class NotConverted(Exception):
    """Says why there is no graph."""


def graph_of(plan: Plan) -> bytes:
    """Return the ONNX graph of a model. Its input is `rows`, float64 of shape (rows, features).

    Its output is `raw`, the scores of trees; or `features`, what goes into a linear last step; or all that the model
    says: predictions, and probabilities.

    Raises:
        NotConverted: no converter takes it; the message says why.
    """
    try:
        return _bytes(_graph(plan))
    except TooLarge as wrong:
        raise NotConverted(str(wrong)) from wrong


def _graph(plan: Plan) -> Any:
    if plan.forest is not None and plan.scaling is not None:  # NumPy scales to the last bit as the library does
        return forest_graph(plan.forest, plan.features)
    if plan.forest is None and plan.linear is None:
        return _by_converter(plan.model, plan)
    if plan.before is None:
        raise NotConverted("A linear model is its weights; there is nothing to convert.")
    graph = _by_converter(plan.before, plan)
    (last,) = graph.graph.output
    if last.type.tensor_type.elem_type != TensorProto.DOUBLE:
        raise NotConverted("The converter gives its first steps in less than float64.")
    if plan.forest is not None:
        append_forest(graph, plan.forest)
    else:
        graph.graph.node.append(helper.make_node("Identity", [last.name], [FEATURES]))
        del graph.graph.output[:]
        graph.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.DOUBLE, [None, None]))
    return graph


def _by_converter(model: Any, plan: Plan) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType

    try:
        return _convert(model, plan, [(ROWS, DoubleTensorType([None, plan.features]))])
    except NotConverted:
        if plan.names is None:
            raise
    # Steps that name their columns need each of them as an input of its own.
    graph = _convert(model, plan, [(name, DoubleTensorType([None, 1])) for name in plan.names])
    _split_columns(graph, plan.features)
    return graph


def _convert(model: Any, plan: Plan, inputs: Sequence[tuple[str, Any]]) -> Any:
    import skl2onnx

    labels = plan.classes is not None and model is plan.model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skl2onnx.to_onnx(
                model,
                initial_types=list(inputs),
                target_opset=OPSETS,
                options={id(model): {"zipmap": False}} if labels else None,
            )
    except Exception as wrong:  # converters raise whatever an unforeseen model leads them to
        said = " ".join(str(wrong).split())
        raise NotConverted(f"The converter refuses it: {type(wrong).__name__}: {said[:300]}") from wrong


def _split_columns(model: Any, features: int) -> None:
    graph = model.graph
    names = [one.name for one in graph.input]
    graph.initializer.append(numpy_helper.from_array(np.ones(features, dtype=np.int64), "rows_each"))
    graph.node.insert(0, helper.make_node("Split", [ROWS, "rows_each"], names, axis=1))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(ROWS, TensorProto.DOUBLE, [None, features]))


def _bytes(model: Any) -> bytes:
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
