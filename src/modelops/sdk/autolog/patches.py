"""Putting autolog into the libraries that are installed, and taking it out again."""

import functools
import importlib
import importlib.util
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

from modelops.sdk.autolog import boosting
from modelops.sdk.autolog.estimators import record_fit
from modelops.sdk.autolog.recording import Options, outermost
from modelops.sdk.tracking import ExperimentTracker

_options: Options | None = None
_active: "Autolog | None" = None
_switch = threading.Lock()


class Autolog:
    """Autolog while it is on: until `stop`, or the end of its `with` block."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def stop(self) -> None:
        """Take every patch out again. What runs under way record is still recorded."""
        global _options, _active
        with _switch:
            if _active is self:
                _options = _active = None
            while self._undo:
                self._undo.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _put(self, holder: Any, name: str, patched: Any) -> None:
        """Set an attribute, and remember how to undo that, unless somebody else sets it meanwhile."""
        original, place = vars(holder).get(name), weakref.ref(holder)

        def undo() -> None:
            there = place()
            if there is None or vars(there).get(name) is not patched:
                return
            if original is None:
                delattr(there, name)
            else:
                setattr(there, name, original)

        setattr(holder, name, patched)
        self._undo.append(undo)

    def _patch_estimators(self) -> None:
        base = importlib.import_module("sklearn.base").BaseEstimator
        for kind in {*_subclasses(base)}:
            self._patch_estimator(kind)

        def patch_later(cls: type[Any], /, **options: Any) -> None:
            super(base, cls).__init_subclass__(**options)
            if _active is self:
                self._patch_estimator(cls)

        self._put(base, "__init_subclass__", classmethod(patch_later))

    def _patch_estimator(self, kind: type) -> None:
        original = vars(kind).get("fit")
        if isinstance(original, types.FunctionType) and not hasattr(original, "__autolog__"):
            self._put(kind, "fit", _fit(original))

    def _patch_function(self, module: str, name: str, record: Callable[..., Any]) -> None:
        holder = importlib.import_module(module)
        self._put(holder, name, _function(getattr(holder, name), record))


def autolog(
    enabled: bool = True,
    *,
    tracker: ExperimentTracker | None = None,
    experiment: str | None = None,
    metrics: bool = True,
    models: bool = False,
) -> Autolog:
    """Record every training call of scikit-learn, XGBoost and LightGBM in this process, from now on.

    A fit makes a run of its own, or adds to the run whose `with` block it is in. Fits inside of a fit, such as those of a
    pipeline's steps or a search's candidates, are parts of it; a search's run has each candidate's scores. While one fit is
    recorded, fits of other threads are taken for parts of it, too. Whatever fails in recording is logged and stops nothing.

    Args:
        enabled: False takes every patch out again.
        tracker: Where to; by default the one of the settings.
        experiment: The experiment of runs that a fit makes; by default the tracker's, or `autolog`.
        metrics: Whether a fitted estimator predicts its training data, to be measured on them.
        models: Whether the fitted model is recorded as files.
    """
    global _options, _active
    if _active is not None:
        _active.stop()
    made = Autolog()
    if not enabled:
        return made
    with _switch:
        _options, _active = Options(tracker, experiment, metrics, models), made
        if importlib.util.find_spec("sklearn"):
            made._patch_estimators()
        if importlib.util.find_spec("xgboost"):
            made._patch_function("xgboost", "train", boosting.record_xgboost)
        if importlib.util.find_spec("lightgbm"):
            made._patch_function("lightgbm", "train", boosting.record_lightgbm)
    return made


def around_fit(original: Callable[..., Any], estimator: Any, args: Any, kwargs: Any) -> Any:
    """Call an estimator's own `fit`, recorded if it is the outermost one.

    A module's function, so that a class that is pickled by value takes a reference along and no state.
    """
    options = _options
    if options is None:
        return original(estimator, *args, **kwargs)
    with outermost() as is_outermost:
        if not is_outermost:
            return original(estimator, *args, **kwargs)
        return record_fit(options, original, estimator, args, kwargs)


def _fit(original: Any) -> Any:
    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around_fit(original, self, args, kwargs)

    fit.__autolog__ = True  # type: ignore[attr-defined]
    return fit


def _function(original: Any, record: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def train(*args: Any, **kwargs: Any) -> Any:
        options = _options
        if options is None:
            return original(*args, **kwargs)
        with outermost() as is_outermost:
            if not is_outermost:
                return original(*args, **kwargs)
            return record(options, original, args, kwargs)

    return train


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    inner: type[Any]
    for inner in kind.__subclasses__():
        yield inner
        yield from _subclasses(inner)
