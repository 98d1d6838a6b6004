"""Whether a candidate treats groups alike.

| criterion | figure | source |
|---|---|---|
| `demographic_parity` | largest difference between groups in how often they are predicted `positive` | Dwork et al. 2012 |
| `equalized_odds` | the same among rows that are positive, or among those that are not | Hardt, Price and Srebro 2016 |

The two agree only where groups do not differ in truth: which of them is right is a question to people, not to a figure.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.validation import scoring
from modelops.domains.models.validation.quality import slices
from modelops.domains.models.validation.schemas import Task
from modelops.domains.models.validation.trial import Finding, Trial

Array = NDArray[Any]
CRITERIA = ("demographic_parity", "equalized_odds")


class FairnessCheck:
    """How often groups are predicted `positive`, all in all and by what is true.

    Args:
        group: The column that tells the groups; it need be no feature. Numbers are cut at quantiles.
        positive: The label that counts; by default the greater one of two.
        max_difference: How far groups may be apart, 0 to 1.
        criteria: `demographic_parity`, `equalized_odds`, or both.
        min_rows: Smaller groups are passed over, in each rate.
    """

    name = "fairness"

    def __init__(
        self,
        group: str,
        positive: Any = None,
        max_difference: float = 0.1,
        criteria: Sequence[str] | str = CRITERIA,
        min_rows: int = 30,
    ) -> None:
        self.group = group
        self.positive = positive
        self.max_difference = max_difference
        self.criteria = [criteria] if isinstance(criteria, str) else list(criteria)
        self.min_rows = min_rows
        if not self.criteria or set(self.criteria) - set(CRITERIA):
            raise InvalidInput(f"`criteria` are of: {', '.join(CRITERIA)}.")

    def run(self, trial: Trial) -> Finding:
        """Compute each group's rates, and how far they are apart."""
        if trial.task is not Task.CLASSIFICATION:
            raise InvalidInput("Fairness by rates is for classes, and this is a regression.")
        if self.group not in trial.columns:
            raise InvalidInput(f"The data has no column '{self.group}' that tells the groups.")
        truth, said = scoring.alike(trial.truth, trial.said["candidate"])
        chosen = self._positive(truth, said)
        groups = list(slices(self.group, trial.columns[self.group], 4))
        kinds = {
            "selected": np.ones(len(truth), dtype=bool),
            "true_positive": truth == chosen,
            "false_positive": truth != chosen,
        }
        rates = {kind: self._rates(groups, among, said == chosen) for kind, among in kinds.items()}
        apart = {kind: _apart(found.values()) for kind, found in rates.items()}
        figures = {
            "demographic_parity": apart["selected"],
            "equalized_odds": max(apart["true_positive"], apart["false_positive"]),
        }
        for kind, found in rates.items():
            figures |= {f"{kind}.{name}"[:250]: rate for name, rate in found.items()}
        if len(rates["selected"]) < 2:
            raise InvalidInput(f"Fewer than two groups of '{self.group}' have {self.min_rows} rows.")
        far = [name for name in self.criteria if figures[name] > self.max_difference]
        said_so = ", ".join(f"{name} {figures[name]:.3g}" for name in self.criteria)
        return Finding(
            not far, f"{said_so} between {len(rates['selected'])} groups; {self.max_difference:g} is allowed.", figures
        )

    def _positive(self, truth: Array, said: Array) -> Any:
        found = np.unique(np.concatenate([truth, said]))
        if self.positive is not None:
            chosen = scoring.labels([self.positive], like=truth)[0]
            if chosen not in found:
                raise InvalidInput(f"No row has the label '{self.positive}', and none is predicted to.")
            return chosen
        if len(found) > 2:
            raise InvalidInput("There are more than two labels.", hint="Name the one that counts: `positive`.")
        return found[-1]

    def _rates(self, groups: list[tuple[str, Array]], among: Array, chosen: Array) -> dict[str, float]:
        return {
            name: float(chosen[rows & among].mean())
            for name, rows in groups
            if int((rows & among).sum()) >= self.min_rows
        }


def _apart(rates: Iterable[float]) -> float:
    known = list(rates)
    return max(known) - min(known) if known else 0.0
