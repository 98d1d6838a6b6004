"""The Pareto front: what nothing else beats in every objective at once."""

import numpy as np
from numpy.typing import NDArray


def pareto_front(points: NDArray[np.float64], lower_is_better: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which points no other point dominates.

    A point dominates another if it is at least as good in every objective and better in one; of equal points none dominates
    the other, so both may be in the front.

    Args:
        points: Shape (points, objectives), finite or infinite, no NaN.
        lower_is_better: Shape (objectives,).

    Returns:
        Shape (points,): True for those in the front.
    """
    costs = np.where(lower_is_better, points, -points)
    front = np.ones(len(costs), dtype=np.bool_)
    for place, cost in enumerate(costs):
        front[place] = not np.any(np.all(costs <= cost, axis=1) & np.any(costs < cost, axis=1))
    return front
