"""Chains that are loaded: what one step predicts is what the next one takes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from modelops.domains.models.compositions import PassOn
from modelops.domains.models.ensembles.members import Loaded, MemberFailed
from modelops.domains.models.flavours import Bounded


class ChainPredictor:
    """Models one after the other. The last one's predictions and probabilities are the chain's."""

    def __init__(self, steps: Sequence[Loaded], pass_on: PassOn) -> None:
        self.members, self._probabilities = list(steps), pass_on is PassOn.PROBABILITIES
        self.model: Any = self
        first, last = self.members[0].predictor, self.members[-1].predictor
        self.wants_columns, self.feature_names, self.classes = first.wants_columns, first.feature_names, last.classes
        if all(isinstance(step.predictor, Bounded) for step in steps):
            self.bounded: Literal[True] = True

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return what the last step predicts, and its probabilities or None."""
        count = len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)
        said, shares = self.members[0].answer(rows)
        for before, step in pairwise(self.members):
            given = shares if self._probabilities and shares is not None else said
            said, shares = step.answer(as_rows(before, given, step, count))
        return said, shares

    def predict(self, rows: Any) -> Any:
        """Return what the last step predicts."""
        return self.answer(rows)[0]

    def predict_proba(self, rows: Any) -> Any:
        """Return the last step's class probabilities, or None where it gives none."""
        return self.answer(rows)[1]


def as_rows(before: Loaded, given: Any, step: Loaded, count: int) -> Any:
    """Return what a step gave as rows of the next one: a float64 matrix, or columns by name.

    Raises:
        MemberFailed: it does not fit; the message names both steps.
    """
    if hasattr(given, "columns") and hasattr(given, "dtypes"):
        given = {str(name): given[name].to_numpy() for name in given.columns}
    elif isinstance(given, list) and given and isinstance(given[0], Mapping):
        given = {name: np.asarray([row.get(name) for row in given]) for name in given[0]}
    columns = given if isinstance(given, dict) else _columns(before, given)
    _check(before, columns, step, count)
    named = isinstance(given, dict) and step.names is not None and set(step.names) == set(columns)
    ordered = [columns[name] for name in step.names] if named and step.names is not None else list(columns.values())
    if not step.predictor.wants_columns:
        try:
            return np.column_stack([np.asarray(column, dtype=np.float64) for column in ordered])
        except (ValueError, TypeError):
            pass  # texts go on as columns
    names = step.names or [str(name) for name in columns]
    return dict(zip(names, ordered, strict=True))


def _columns(before: Loaded, given: Any) -> dict[str, Any]:
    table = np.asarray(given)
    if table.ndim not in (1, 2):
        raise MemberFailed(f"{before.label} gave an array of shape {table.shape}, which is no table of rows")
    if table.ndim == 1:
        table = table.reshape(-1, 1)
    return {f"x{index}": table[:, index] for index in range(table.shape[1])}


def _check(before: Loaded, columns: Mapping[str, Any], step: Loaded, count: int) -> None:
    wrong = next((name for name, column in columns.items() if len(column) != count), None)
    if wrong is not None:
        raise MemberFailed(f"{before.label} gave {len(columns[wrong])} values of '{wrong}' for {count} rows")
    if step.names is not None and len(columns) != len(step.names):
        raise MemberFailed(f"{before.label} gave {len(columns)} columns, and {step.label} takes {len(step.names)}")
