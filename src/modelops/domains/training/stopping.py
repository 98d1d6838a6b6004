"""When to stop a training that no longer becomes better."""

from math import inf

from modelops.contracts.errors import InvalidInput


class EarlyStopping:
    """Watches a metric: `stop` is true once so many values in a row brought nothing better.

    The best value so far counts, and a value is better if it beats it by more than `min_delta`. (That is patience; Prechelt's
    "Early Stopping - But When?", 1998, compares it with other rules.)

        stopping = job.early_stopping(patience=5)
        for epoch in range(100):
            ...
            if stopping.update(loss, epoch):
                break

    Args:
        patience: How many values without a better one are endured.
        direction: `min` or `max`: what is better.
        min_delta: By how much a value must beat the best to count.

    Raises:
        InvalidInput: the patience is below 1, the least difference negative, or the direction neither.
    """

    def __init__(self, *, patience: int, direction: str = "min", min_delta: float = 0.0) -> None:
        if patience < 1 or min_delta < 0 or direction not in ("min", "max"):
            raise InvalidInput(
                "Early stopping takes a patience of 1 or more, a least difference of 0 or more, and `min` or `max`."
            )
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0
        self._sign = 1.0 if direction == "min" else -1.0

    @property
    def stop(self) -> bool:
        """Tell whether it is time to stop."""
        return self.waited >= self.patience

    def update(self, value: float, step: int) -> bool:
        """Take the next value, and tell whether it is time to stop. What is no number is never better."""
        before = inf if self.best is None else self._sign * self.best
        if self._sign * value < before - self.min_delta:
            self.best, self.best_step, self.waited = value, step, 0
        else:
            self.waited += 1
        return self.stop
