"""What recipes that learn from columns of a table, and those that choose among candidates, have in common."""

import math
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Annotated, Generic, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from modelops.contracts.schemas import Json, Schema

N = TypeVar("N", bound=str)
"""The names that candidates may have."""


def once(names: list[str]) -> list[str]:
    """Return names, or refuse one that occurs twice.

    Raises:
        ValueError: it does.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"'{twice}' occurs twice")
    return names


Columns = Annotated[list[str], AfterValidator(once), Field(min_length=1, max_length=10_000)]
Features = Annotated[Columns | None, Field(description="The columns to learn from; by default, all others.")]


class Target(Schema):
    """The column to predict, and those to predict it from."""

    target: Annotated[str, Field(min_length=1, description="The column to predict.")]
    features: Features = None

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.features is not None and self.target in self.features:
            raise ValueError(f"the target '{self.target}' cannot be a feature too")
        return self


@dataclass(frozen=True)
class Candidate(Generic[N]):
    """A candidate's scores, a fold each, as the metric defines them."""

    name: N
    run_id: str
    scores: list[float]

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return fmean(self.scores)

    @property
    def spread(self) -> float:
        """Return the standard deviation of the scores over the folds (of the population)."""
        return pstdev(self.scores) if all(map(math.isfinite, self.scores)) else math.nan

    def line(self, kind: str) -> Json:
        """Return the line on a leaderboard whose candidates are of a kind, such as algorithms; JSON has no NaN."""
        mean, spread = (value if math.isfinite(value) else None for value in (self.mean, self.spread))
        return {kind: self.name, "run_id": self.run_id, "mean": mean, "std": spread}
