"""A model of MLlib's as a document of numbers, and what it says of rows."""

from typing import Any, Literal

import numpy as np

from modelops.contracts.schemas import Schema
from modelops.domains.models.mllib.inputs import Input, Scaling, encode
from modelops.domains.models.mllib.learners import Learner


class MllibModel(Schema):
    """What was learned: the inputs and how they become vectors, the learner, and the classes that it tells apart.

    Attributes:
        task: `regression` says a number, `classification` a class, `clustering` the number of a cluster, from 0 on.
        algorithm: The class of `pyspark.ml` that learned it.
        spark: The version of Spark that did.
        classes: What is told apart, in the order of the scores; None where it says numbers.
        calibrated: Whether the scores are probabilities.
    """

    format: Literal[1] = 1
    task: Literal["classification", "regression", "clustering"]
    algorithm: str
    spark: str
    inputs: list[Input]
    scaling: Scaling | None
    learner: Learner
    classes: list[bool] | list[int] | list[str] | None
    calibrated: bool

    def scores(self, rows: Any) -> Any:
        """Return a number for each row, shape (rows, 1), or a score for each class or cluster."""
        return self.learner.scores(encode(rows, self.inputs, self.scaling))

    def predict(self, rows: Any) -> Any:
        """Return numbers, classes or clusters, shape (rows,).

        Args:
            rows: Shape (rows, features) in the order of `inputs`, or columns by name; what is missing is NaN or None.
        """
        return self.decided(self.scores(rows))

    def decided(self, scores: Any) -> Any:
        """Return what follows from the scores: where two are equally high, the first class."""
        if self.task == "regression":
            return scores[:, 0]
        best = scores.argmax(axis=1)
        if self.task == "clustering" or self.classes is None:
            return best
        kind = object if isinstance(self.classes[0], str) else None
        return np.array(self.classes, dtype=kind)[best]
