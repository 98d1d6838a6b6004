"""Ensembles that are loaded: predictors like any other."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compositions import Composition, Method
from modelops.domains.models.ensembles.combining import aligned, all_labels, label_array, mean, voted
from modelops.domains.models.ensembles.members import Loaded, MemberFailed
from modelops.domains.models.flavours import Bounded

Answer = Callable[[Any], tuple[Any, Any]]


class EnsemblePredictor:
    """Several models that give one answer.

    `average` of classifiers: the weighted mean of their probabilities, a label that a member never saw counting 0 with
    it, and the label with the most (of several, the first in order). Of models without probabilities: the weighted mean
    of their values. `vote`: the label with the most weight of those the members predict, and no probabilities. `stack`:
    what the last model says of the members' probabilities (of two classes, the second's) or values.
    """

    def __init__(self, composition: Composition, members: Sequence[Loaded], final: Loaded | None) -> None:
        self.members, self.final = list(members), final
        self.model: Any = self
        self.wants_columns = any(member.predictor.wants_columns for member in members)
        self.feature_names = next((member.names for member in members if member.names is not None), None)
        self._weights = [member.weight for member in self.members]
        self.classes, self._answer = self._way(composition)
        if all(isinstance(part.predictor, Bounded) for part in (*members, *([final] if final else []))):
            self.bounded: Literal[True] = True

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return predictions, shape (rows,) or (rows, outputs), and probabilities, shape (rows, classes), or None."""
        return self._answer(rows)

    def predict(self, rows: Any) -> Any:
        """Return predictions, shape (rows,) or (rows, outputs)."""
        return self._answer(rows)[0]

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None where there are none."""
        return self._answer(rows)[1]

    def _way(self, composition: Composition) -> tuple[list[Any] | None, Answer]:
        """Return the classes, and what answers."""
        if composition.method is Method.STACK and self.final is not None:
            features = StackFeatures(self.members, composition.classes)
            final = self.final
            return final.predictor.classes, lambda rows: final.answer(features(rows))
        if composition.method is Method.VOTE:
            return None, self._vote
        if not share_classes(self.members):
            return None, self._mean
        labels = all_labels([member.predictor.classes or [] for member in self.members])
        array = label_array(labels)

        def soft(rows: Any) -> tuple[Any, Any]:
            shares = self._shares(rows, labels)
            return array.take(shares.argmax(axis=1)), shares

        return labels, soft

    def _shares(self, rows: Any, labels: list[Any]) -> Any:
        return mean([shares_of(member, rows, labels) for member in self.members], self._weights)

    def _mean(self, rows: Any) -> tuple[Any, Any]:
        values = [member.values(rows) for member in self.members]
        shapes = {value.shape for value in values}
        if len(shapes) > 1:
            told = ", ".join(
                f"{member.label} {value.shape}" for member, value in zip(self.members, values, strict=True)
            )
            raise ValueError(f"the members' predictions have different shapes: {told}")
        return mean(values, self._weights), None

    def _vote(self, rows: Any) -> tuple[Any, Any]:
        return voted([_labels(member, rows) for member in self.members], self._weights), None


class StackFeatures:
    """What the last model of a stack takes, float64 of shape (rows, features).

    A classifier's columns are its probabilities of `classes`, in that order; of two, only the second, since the first
    follows from it. Any other member's are its values.
    """

    def __init__(self, members: Sequence[Loaded], classes: Sequence[Any] | None) -> None:
        self._members, self._classes = list(members), None if classes is None else list(classes)

    def __call__(self, rows: Any) -> Any:
        """Return the features of some rows."""
        return np.column_stack([self._columns(member, rows) for member in self._members])

    def _columns(self, member: Loaded, rows: Any) -> Any:
        if self._classes is None or member.predictor.classes is None:
            return member.values(rows)
        return without_first_of_two(shares_of(member, rows, self._classes))


def without_first_of_two(shares: Any) -> Any:
    """Return probabilities without what follows from the others where there are two classes."""
    return shares[:, 1:] if shares.shape[1] == 2 else shares


def shares_of(member: Loaded, rows: Any, labels: Sequence[Any]) -> Any:
    """Return a member's probabilities of some labels, shape (rows, labels)."""
    return aligned(member.answer(member.rows(rows))[1], member.predictor.classes or [], labels)


def _labels(member: Loaded, rows: Any) -> list[Any]:
    said = member.answer(member.rows(rows))[0]
    labels: list[Any] = said if isinstance(said, list) else np.asarray(said).tolist()
    if any(isinstance(label, list | dict) for label in labels):
        raise MemberFailed(f"{member.label} gave several values a row, and a vote is on one label")
    return labels


def share_classes(members: Sequence[Loaded]) -> bool:
    """Tell whether all members give probabilities, or none.

    Raises:
        InvalidInput: some do; the message names one of each.
    """
    with_them = [member.label for member in members if member.predictor.classes is not None]
    without = [member.label for member in members if member.predictor.classes is None]
    if with_them and without:
        raise InvalidInput(
            f"{with_them[0]} gives probabilities, and {without[0]} gives none, so there is nothing to average.",
            hint="Let them vote, or make a stack of them.",
        )
    return bool(with_them)
