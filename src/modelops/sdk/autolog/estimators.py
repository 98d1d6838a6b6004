"""scikit-learn's estimators, and whatever else has its interface, XGBoost's and LightGBM's among them."""

import contextlib
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelops.sdk.autolog.recording import Call, Options, recorded, safely

_SAMPLE = 100


def record_fit(options: Options, original: Callable[..., Any], estimator: Any, args: Any, kwargs: Any) -> Any:
    """Fit an estimator and record that; one that only transforms is fitted and not recorded."""
    if not _predicts(estimator):
        return original(estimator, *args, **kwargs)

    def begin() -> Call:
        kind = type(estimator)
        call = Call(options, _title(estimator), kind.__module__.partition(".")[0])
        safely(
            lambda: call.parameters({"estimator": f"{kind.__module__}.{kind.__qualname__}", **_parameters(estimator)})
        )
        return call

    def end(call: Call, fitted: Any) -> None:
        given = _given(original, estimator, args, kwargs)
        inputs = given.get("X")
        safely(lambda: call.curves(_evaluations(fitted)))
        if hasattr(fitted, "cv_results_"):
            safely(lambda: _record_search(call, fitted))
        if options.metrics and inputs is not None:
            safely(lambda: call.metrics(_training_metrics(fitted, inputs, given.get("y"))))
        if inputs is not None:
            safely(lambda: _record_package(call, fitted, inputs))

    return recorded(begin, lambda _: original(estimator, *args, **kwargs), end)


def _predicts(estimator: Any) -> bool:
    with contextlib.suppress(Exception):
        return hasattr(type(estimator), "predict")
    return False


def _title(estimator: Any) -> str:
    """Return the estimator's class, and of a pipeline or search, those within."""
    names = [type(estimator).__name__]
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):
        names += [type(step[-1]).__name__ for step in steps]
    inner = getattr(estimator, "estimator", None)
    if inner is not None and hasattr(inner, "fit"):
        names += _title(inner).split(" ")
    return " ".join(names)


def _parameters(estimator: Any) -> dict[str, Any]:
    """Return the parameters, those of nested estimators by their path, and the estimators themselves by their class."""
    found = estimator.get_params(deep=True)
    return {key: type(value).__name__ if hasattr(value, "get_params") else value for key, value in found.items()}


def _given(original: Callable[..., Any], estimator: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the arguments by name; the first one is `X`, however it is called."""
    _, *arguments = inspect.signature(original).bind(estimator, *args, **kwargs).arguments.items()
    return {**dict(arguments), **({"X": arguments[0][1]} if arguments else {})}


def _evaluations(fitted: Any) -> Mapping[str, Any]:
    found: Any = getattr(fitted, "evals_result_", None)
    if found is None and hasattr(fitted, "evals_result"):
        with contextlib.suppress(Exception):  # XGBoost's raises where there was no evaluation set
            found = fitted.evals_result()
    return found if isinstance(found, Mapping) else {}


def _record_search(call: Call, search: Any) -> None:
    """Record a search as one run: each candidate's scores at its number as the step, and the best one's parameters."""
    results = search.cv_results_
    for step in range(len(results["params"])):
        scores = {key: float(results[key][step]) for key in results if key.startswith(("mean_test_", "std_test_"))}
        call.metrics({f"candidate.{key}": value for key, value in scores.items()}, step)
    if hasattr(search, "best_params_"):
        call.parameters({f"best.{key}": value for key, value in search.best_params_.items()})
    if hasattr(search, "best_score_"):
        call.metrics({"best.score": float(search.best_score_)})
    table = {key: [str(one) if key.startswith("param") else float(one) for one in results[key]] for key in results}
    call.file(json.dumps(table).encode(), "candidates.json")


def _training_metrics(fitted: Any, inputs: Any, wanted: Any) -> dict[str, float]:
    """Return how well the fitted estimator tells its own training data. Sources: scikit-learn's metrics of these names."""
    from sklearn import metrics
    from sklearn.base import is_classifier, is_regressor

    if wanted is None or not (is_classifier(fitted) or is_regressor(fitted)):
        return {}
    said = fitted.predict(inputs)
    if is_regressor(fitted):
        return {
            "training.r2": metrics.r2_score(wanted, said),
            "training.mae": metrics.mean_absolute_error(wanted, said),
            "training.rmse": metrics.root_mean_squared_error(wanted, said),
        }
    found = {
        "training.accuracy": metrics.accuracy_score(wanted, said),
        "training.f1_weighted": metrics.f1_score(wanted, said, average="weighted"),
    }
    if hasattr(fitted, "predict_proba"):
        with contextlib.suppress(ValueError):  # of several outputs at once there is none
            found["training.log_loss"] = metrics.log_loss(wanted, fitted.predict_proba(inputs), labels=fitted.classes_)
    return found


def _record_package(call: Call, fitted: Any, inputs: Any) -> None:
    """Record the signature, and with `models` the whole package as the registry takes it."""
    sample = inputs[:_SAMPLE]
    if not call.options.models:
        from modelops.domains.models.signatures import infer_signature

        signature = infer_signature(sample, fitted.predict(sample))
        call.file(signature.model_dump_json().encode(), "signature.json")
        return
    from modelops.sdk.packaging import write_package

    with tempfile.TemporaryDirectory() as folder:
        package = write_package(Path(folder), fitted, sample=sample)
        for file in package.files:
            call.file(Path(folder) / file.path, f"model/{file.path}")
    call.file(package.signature.model_dump_json().encode(), "signature.json")
