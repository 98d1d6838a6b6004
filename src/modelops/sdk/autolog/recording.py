"""What one training call leaves on a run: its parameters, its curves, its outcome. Errors of ours end here."""

import contextlib
import functools
import logging
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops.domains.experiments.schemas import RunStatus
from modelops.sdk.active_run import ActiveRun, current_run
from modelops.sdk.spool.sender import sentence
from modelops.sdk.tracking import ExperimentTracker, default_tracker

log = logging.getLogger(__name__)

EXPERIMENT = "autolog"

_VALUE = 500
_UNFIT = re.compile(r"[^A-Za-z0-9._\- ]+")
_fits: "weakref.WeakKeyDictionary[ActiveRun, Counter[str]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Options:
    """What `autolog` was asked for."""

    tracker: ExperimentTracker | None
    experiment: str | None
    metrics: bool
    models: bool


class Call:
    """One training call that is recorded: on the run around it, or on one of its own.

    On the program's own run, names begin with the model's class, from the second of a class on with its number, so that
    several fits in one run never claim one parameter.
    """

    def __init__(self, options: Options, title: str, library: str) -> None:
        self.options = options
        around = current_run()
        self._is_own = around is None
        self.prefix = "" if around is None else _prefix(around, title.split(" ")[0])
        self.run = around or _begin(options, title, library)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record parameters, what is no plain value by its text."""
        plain = {f"{self.prefix}{key}"[:250]: _plain(value) for key, value in values.items()}
        self.run.log_params(plain)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record metrics."""
        self.run.log_metrics({f"{self.prefix}{key}"[:250]: value for key, value in values.items()}, step=step)

    def curves(self, evaluations: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what was measured on each evaluation set after each iteration."""
        for name, metrics in evaluations.items():
            for metric, values in metrics.items():
                for step, value in enumerate(values):
                    self.metrics({f"{name}.{metric}": value}, step)

    def file(self, content: bytes | Path, path: str) -> None:
        """Record a file."""
        self.run.log_artifact(content, f"{self.prefix}{path}")

    def close(self, error: BaseException | None) -> None:
        """End the run, if it is the call's own."""
        if not self._is_own or not self.run.is_open:
            return
        if error is None:
            self.run.end()
        else:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            self.run.end(RunStatus.CANCELED if stopped else RunStatus.FAILED, sentence(error))


_outermost = threading.Lock()


@contextmanager
def outermost() -> Iterator[bool]:
    """Tell whether no other recorded call is under way: those inside of one are parts of it, in whichever thread they run."""
    if not _outermost.acquire(blocking=False):
        yield False
        return
    try:
        yield True
    finally:
        _outermost.release()


def recorded(
    begin: Callable[[], Call | None], work: Callable[[Call | None], Any], end: Callable[[Call, Any], None]
) -> Any:
    """Do the program's work and record it. Whatever goes wrong with recording is logged, and the work goes on."""
    call = safely(begin)
    try:
        result = work(call)
    except BaseException as error:
        if call is not None:
            safely(functools.partial(call.close, error))
        raise
    if call is not None:
        safely(functools.partial(end, call, result))
        safely(functools.partial(call.close, None))
    return result


def safely(action: Callable[[], Any]) -> Any:
    """Return what an action of ours returns, or None where it fails, which is logged."""
    try:
        return action()
    except Exception as failure:
        log.warning(
            "autolog could not record everything: %s", sentence(failure), exc_info=log.isEnabledFor(logging.DEBUG)
        )
        return None


def _begin(options: Options, title: str, library: str) -> ActiveRun:
    tracker = options.tracker or default_tracker()
    experiment = options.experiment or tracker.experiment or EXPERIMENT
    name = _UNFIT.sub(" ", title).strip(" ._-")[:200] or "fit"
    return tracker.start_experiment(experiment, run_name=name, tags={"autolog": library})


def _prefix(run: ActiveRun, kind: str) -> str:
    counts = _fits.setdefault(run, Counter())
    counts[kind] += 1
    return f"{kind}." if counts[kind] == 1 else f"{kind}-{counts[kind]}."


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_VALUE]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple) and len(value) <= 20 and all(isinstance(v, str | int | float) for v in value):
        return list(value)
    with contextlib.suppress(Exception):
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            return value.item()
    return (
        value.__qualname__ if isinstance(value, type) else repr(value) if _is_short(value) else type(value).__name__
    )[:_VALUE]


def _is_short(value: Any) -> bool:
    return isinstance(value, list | tuple | dict | set | frozenset | range | bytes) and len(value) <= 20
