"""What a check is given: two models, one table, the truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import ModelSignature
from modelops.domains.models.validation import scoring
from modelops.domains.models.validation.columns import Column, floats, inputs_of
from modelops.domains.models.validation.schemas import Task

if TYPE_CHECKING:
    from modelops.domains.models.flavours import Predictor

Array = NDArray[Any]
_FEW_VALUES = 20


@dataclass(frozen=True)
class Finding:
    """What a check says. `figures` are named numbers."""

    passed: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Check(Protocol):
    """One question to a candidate. Its parameters are keyword arguments of what makes it, and its public attributes.

    An entry point of the group `modelops.checks` is what makes it: a class, or a function.
    """

    name: str

    def run(self, trial: "Trial") -> Finding:
        """Answer it.

        Raises:
            InvalidInput: it cannot be answered on this data; the check counts as failed, with that reason.
        """
        ...


@dataclass(frozen=True)
class Contender:
    """A loaded model and what it takes."""

    label: str
    predictor: "Predictor"
    signature: ModelSignature

    def inputs(self, columns: Mapping[str, Column]) -> Any:
        """Return a table as the model takes it."""
        return inputs_of(self.signature, columns, self.predictor.wants_columns)

    def predict(self, columns: Mapping[str, Column]) -> Array:
        """Return what it predicts, shape (rows,)."""
        said = np.asarray(self.predictor.predict(self.inputs(columns)))
        if said.ndim == 2 and said.shape[1] == 1:
            said = said[:, 0]
        if said.ndim != 1:
            raise InvalidInput(f"{self.label} gives several values a row, and checks compare one.")
        return said

    def chances(self, columns: Mapping[str, Column]) -> Array | None:
        """Return its probabilities, shape (rows, classes), if it gives any."""
        given = None if self.predictor.classes is None else self.predictor.predict_proba(self.inputs(columns))
        return None if given is None else np.asarray(given, dtype=np.float64)


@dataclass(frozen=True)
class Trial:
    """A candidate, the champion it is compared with, if there is one, and a table with the truth.

    Attributes:
        columns: The table, arrays of shape (rows,) by name; also columns that no model takes, to slice by.
        target: The name of the truth's column.
        seed: Of whatever a check draws at random.
    """

    candidate: Contender
    champion: Contender | None
    columns: Mapping[str, Column]
    target: str
    task: Task
    seed: int = 0

    @cached_property
    def truth(self) -> Array:
        """Return the truth, shape (rows,); of a regression as float64."""
        column = self.columns[self.target]
        return floats(self.target, column) if self.task is Task.REGRESSION else column

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.columns[self.target])

    @cached_property
    def said(self) -> dict[str, Array]:
        """Return what each contender predicts, by role: `candidate`, `champion`."""
        return {role: one.predict(self.columns) for role, one in self.contenders.items()}

    @property
    def contenders(self) -> dict[str, Contender]:
        """Return the contenders by role."""
        found = {"candidate": self.candidate}
        return found if self.champion is None else {**found, "champion": self.champion}

    @cached_property
    def scores(self) -> dict[str, Array]:
        """Return each contender's score a row, higher is better: 1 for right and 0 for wrong, or less the absolute error."""
        return {role: self.score(said) for role, said in self.said.items()}

    def score(self, said: Array) -> Array:
        """Return the score of predictions, float64 of shape (rows,)."""
        if self.task is Task.REGRESSION:
            return -np.abs(floats("prediction", said) - self.truth)
        truth, labels = scoring.alike(self.truth, said)
        right: Array = truth == labels
        return right.astype(np.float64)

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Return each contender's figures on all rows, by role."""
        return {role: self._metrics(role) for role in self.contenders}

    def _metrics(self, role: str) -> dict[str, float]:
        if self.task is Task.REGRESSION:
            return scoring.regression(self.truth, floats("prediction", self.said[role]))
        contender = self.contenders[role]
        chances = contender.chances(self.columns)
        return scoring.classification(self.truth, self.said[role], contender.predictor.classes, chances)


def task_of(contender: Contender, columns: Mapping[str, Column], target: str) -> Task:
    """Tell the task: classes where the model gives probabilities, the truth is no number, or both are whole and few."""
    truth = columns[target]
    if contender.predictor.classes is not None or truth.dtype.kind not in "fiu":
        return Task.CLASSIFICATION
    said = contender.predict(columns)
    return Task.CLASSIFICATION if _few_and_whole(truth) and _few_and_whole(said) else Task.REGRESSION


def _few_and_whole(values: Array) -> bool:
    if values.dtype.kind not in "fiub":
        return True
    distinct = np.unique(values.astype(np.float64))
    return len(distinct) <= _FEW_VALUES and bool(np.all(np.floor(distinct) == distinct))
