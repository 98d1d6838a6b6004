"""How many steps a worker claims at once: many where they are tiny, one where they take their time."""

_MOST = 64
_QUICK_S = 0.05
_AHEAD_S = 0.3
"""How much work is claimed at once, by what steps took lately."""

_SMOOTH = 0.3


class Pace:
    """What steps took lately."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._most = 1

    def note(self, seconds: float) -> None:
        """Take in how long a step took."""
        before = seconds if self._seconds is None else self._seconds
        self._seconds = _SMOOTH * seconds + (1 - _SMOOTH) * before
        fitting = int(_AHEAD_S / max(self._seconds, 1e-6))
        self._most = max(1, min(_MOST, 4 * self._most, fitting))

    def reset(self) -> None:
        """Begin anew: what was claimed had to be given back."""
        self._seconds, self._most = None, 1

    @property
    def most(self) -> int:
        """Return how many steps to claim."""
        return self._most

    @property
    def is_quick(self) -> bool:
        """Tell whether the next steps are to be claimed while one runs."""
        return self._seconds is not None and self._seconds < _QUICK_S
