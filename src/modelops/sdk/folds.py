"""Recording what a run reached on each fold, so that runs on the same folds can be tested in pairs."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.analysis_rules import FOLD_PREFIX, FOLDS_TAG, TEST_SHARE_TAG
from modelops.sdk.active_run import ActiveRun


def log_folds(
    run: ActiveRun, metric: str, values: Sequence[Any], *, split: str, test_share: float | None = None
) -> None:
    """Record a metric's value on each fold, in the folds' order, and its mean as the metric itself.

    Args:
        run: The run that was measured.
        metric: Such as `accuracy`.
        values: One for each fold, shape (folds,); anything that `float()` takes.
        split: A name of how the rows were split: the same for runs whose folds are the same, such as
            `customers:3 kfold 5 seed 7`, and another for every other split.
        test_share: The share of the rows that each fold tests; by default that of one pass, 1 / folds. Name it where the
            folds are repeated, or drawn at random.

    Raises:
        InvalidInput: there are no values, or the share is not between 0 and 1.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise InvalidInput("No fold has a value.")
    if test_share is not None and not 0 < test_share < 1:
        raise InvalidInput(f"A fold tests more than none of the rows and less than all, not {test_share}.")
    run.set_tags({FOLDS_TAG: split, **({} if test_share is None else {TEST_SHARE_TAG: repr(float(test_share))})})
    for fold, number in enumerate(numbers):
        run.log_metric(f"{FOLD_PREFIX}{metric}", number, step=fold)
    run.log_metric(metric, fmean(numbers))
