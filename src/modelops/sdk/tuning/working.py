"""Workers: they ask for a trial, call the objective, tell what came of it, and ask again, until the study makes no more."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock
from typing import Any

import optuna

from modelops.contracts.errors import MLOpsError
from modelops.domains.tuning.rules import StudyError, TrialEnded, TrialLost
from modelops.domains.tuning.schemas import TrialState
from modelops.sdk.tuning.pruned import Interrupted, TrialPruned
from modelops.sdk.tuning.sampling import Sampling
from modelops.sdk.tuning.trial import Trial

log = logging.getLogger(__name__)

Objective = Callable[[Any], float | Sequence[float]]
"""Called with a `Trial`; returns its value, or one an objective."""

Watch = Callable[[Trial, TrialState, Sequence[float] | None], None]
"""Called after each trial."""

_REASON = 4_000
_HOPELESS = 5


class ObjectiveFailed(StudyError):
    """The objective failed, and the study was told to end with it; or it failed in each of the first trials."""

    code, title = "tuning.objective_failed", "The objective failed"


class Workers:
    """Runs an objective on trials in threads of this process.

    Args:
        sampling: Asks and tells.
        objective: What is tried.
        go_on: Whether a trial that fails leaves the study going; five in a row without a completed one never do.
        watch: Hears of each trial.
        most: How many trials at most.
    """

    def __init__(
        self,
        sampling: Sampling,
        objective: Objective,
        *,
        go_on: bool = True,
        watch: Watch | None = None,
        most: int | None = None,
    ) -> None:
        self.sampling = sampling
        self.objective = objective
        self.go_on = go_on
        self.watch = watch
        self.left = most
        self._lock = Lock()
        self._failures, self._worked = 0, False

    def run(self, threads: int) -> None:
        """Run trials until the study makes no more. On Ctrl-C, trials under way are given back.

        Raises:
            ObjectiveFailed: as `go_on` says.
        """
        if threads == 1:
            self.sampling.allow_blocks()
            try:
                self._work()
            except BaseException:
                with suppress(MLOpsError):
                    self.sampling.settle()
                raise
            self.sampling.settle()
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="modelops-trial") as pool:
            found = [pool.submit(self._work) for _ in range(threads)]
            try:
                wait(found)
            except BaseException:
                self.sampling.stopping.set()
                raise
        for one in found:
            one.result()

    def _work(self) -> None:
        trial = self._ask()
        while trial is not None:
            present = trial
            try:
                trial = self._try(present)
            except (TrialLost, TrialEnded) as lost:
                log.warning("trial %d is dropped: %s", present.number, lost)
                self.sampling.drop(present)
                trial = self.sampling.ask(self._still_wanted())

    def _ask(self) -> Trial | None:
        return self.sampling.ask(self._still_wanted()) if self._may_begin() else None

    def _still_wanted(self) -> int | None:
        """Return how many trials may be run, with the one that was just counted as begun."""
        return None if self.left is None else self.left + 1

    def _may_begin(self) -> bool:
        with self._lock:
            if self.sampling.stopping.is_set() or self.left == 0:
                return False
            if self.left is not None:
                self.left -= 1
            return True

    def _try(self, trial: Trial) -> Trial | None:
        """Run a trial, tell how it ended, and return the next one, if there is to be one."""
        try:
            values = _values(self.objective(trial), len(self.sampling.study.objectives))
        except (TrialPruned, optuna.TrialPruned):
            return self._go_on(trial, TrialState.PRUNED, None)
        except (TrialLost, TrialEnded):
            raise
        except Interrupted:
            self.sampling.tell(trial, TrialState.WAITING)
            return None
        except Exception as failure:
            self.sampling.tell(trial, TrialState.FAILED, reason=f"{type(failure).__name__}: {failure}"[:_REASON])
            log.warning("trial %d failed", trial.number, exc_info=failure)
            self._tell_watcher(trial, TrialState.FAILED, None)
            self._count_failure(trial, failure)
            return self._ask()
        except BaseException:
            self.sampling.tell(trial, TrialState.WAITING)
            raise
        self._worked = True
        return self._go_on(trial, TrialState.COMPLETE, values)

    def _go_on(self, trial: Trial, state: TrialState, values: Sequence[float] | None) -> Trial | None:
        if self._may_begin():
            following = self.sampling.go_on(trial, state, values, self._still_wanted())
        else:
            self.sampling.tell(trial, state, values)
            following = None
        self._tell_watcher(trial, state, values)
        return following

    def _count_failure(self, trial: Trial, failure: Exception) -> None:
        with self._lock:
            self._failures += 1
            hopeless = not self._worked and self._failures >= _HOPELESS
        if hopeless or not self.go_on:
            self.sampling.stopping.set()
            raise ObjectiveFailed(
                f"Trial {trial.number} failed: {type(failure).__name__}: {failure}.",
                hint=f"The first {self._failures} trials all failed; correct the objective and go on with the study."
                if hopeless
                else "With `on_failure='continue'` a failed trial leaves the study going.",
            ) from failure

    def _tell_watcher(self, trial: Trial, state: TrialState, values: Sequence[float] | None) -> None:
        if self.watch is not None:
            self.watch(trial, state, values)


def _values(returned: Any, objectives: int) -> list[float]:
    """Return what an objective returned, as a value an objective.

    Raises:
        ValueError: it is none, NaN, or of another number.
    """
    listed = list(returned) if isinstance(returned, Sequence) and not isinstance(returned, str) else [returned]
    try:
        values = [float(one) for one in listed]
    except (TypeError, ValueError):
        raise ValueError(f"the objective returned {returned!r}, which is no number") from None
    if len(values) != objectives:
        raise ValueError(f"the objective returned {len(values)} values, and the study has {objectives} objectives")
    if any(value != value for value in values):
        raise ValueError("the objective returned NaN")
    return values
