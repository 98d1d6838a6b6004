"""What a compiled model is to those who ask it: a predictor like any other."""

from typing import Any, Literal

import numpy as np

from modelops.domains.models.compiling.parity import Answer
from modelops.domains.models.compiling.plans import Plan
from modelops.domains.models.compiling.sessions import FEATURES, RAW, Session
from modelops.domains.models.compiling.trees import NumpyTrees
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.flavours.rows import matrix, one_a_row
from modelops.domains.models.schemas import GRAPHS, CompiledForm


class CompiledPredictor:
    """A model that is asked in its compiled form.

    For those who explain it, `model` is still the native object; and `table` turns rows into what that takes, where the
    plain predictor has such (scikit-learn's has).
    """

    wants_columns = False
    bounded: Literal[True] = True

    def __init__(self, plain: Predictor, answer: Answer) -> None:
        self.model, self.classes, self.feature_names = plain.model, plain.classes, plain.feature_names
        self.table = getattr(plain, "table", None)
        self._answer = answer

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return predictions, shape (rows,) or (rows, outputs), and probabilities, shape (rows, classes), or None."""
        return self._answer(matrix(rows, self.feature_names))

    def predict(self, rows: Any) -> Any:
        """Return predictions, shape (rows,) or (rows, outputs)."""
        return self.answer(rows)[0]

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None."""
        return self.answer(rows)[1]


class Unfit(Exception):
    """Says why a form is not for a model."""


def answer_by(form: CompiledForm, plan: Plan, graph: bytes | None) -> Answer:
    """Return what answers for a model in a form.

    Args:
        graph: The ONNX graph, for that form.

    Raises:
        Unfit: the model has no such form.
        Exception: whatever ONNX Runtime says of a graph that it cannot run.
    """
    if form in GRAPHS and graph is not None:
        return _by_graph(plan, Session(graph))
    scaling, scores = plan.scaling, plan.scores
    if scaling is None or scores is None:
        raise Unfit("What comes before the last step takes more than arithmetic, or the last step is not known here.")
    if form is CompiledForm.LINEAR and plan.linear is not None:
        linear = plan.linear
        return lambda rows: scores.answer(linear(scaling(rows)))
    if form is CompiledForm.TREES and plan.forest is not None:
        walk = NumpyTrees(plan.forest)
        return lambda rows: scores.answer(walk(scaling(rows)))
    raise Unfit(f"The model's last step is not of the form '{form}'.")


def _by_graph(plan: Plan, session: Session) -> Answer:
    scores, linear, scaling = plan.scores, plan.linear, plan.scaling
    if session.outputs == [RAW] and plan.forest is not None and scores is not None:
        if scaling is None:
            return lambda rows: scores.answer(session(rows)[0])
        return lambda rows: scores.answer(session(scaling(rows))[0])
    if session.outputs == [FEATURES] and linear is not None and scores is not None:
        return lambda rows: scores.answer(linear(session(rows)[0]))
    if plan.classes is not None and len(session.outputs) == 2:
        kind = np.asarray(plan.classes).dtype

        def labelled(rows: Any) -> tuple[Any, Any]:
            said, shares = session(rows)
            return said.astype(kind, copy=False), shares

        return labelled
    if len(session.outputs) == 1:
        return lambda rows: (one_a_row(session(rows)[0]), None)
    raise Unfit("The graph gives something else than the model does.")
