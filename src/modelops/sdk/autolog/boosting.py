"""The training functions of XGBoost and LightGBM: what is measured on evaluation sets is recorded as it comes."""

from collections.abc import Callable
from typing import Any

from modelops.sdk.autolog.recording import Call, Options, recorded, safely


def record_xgboost(options: Options, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Train a booster of XGBoost and record that."""
    from xgboost.callback import TrainingCallback

    class Recording(TrainingCallback):  # type: ignore[misc, unused-ignore]
        def __init__(self, call: Call) -> None:
            super().__init__()
            self.call = call

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            def record() -> None:
                for name, metrics in evals_log.items():
                    last = {f"{name}.{metric}": _value(values[-1]) for metric, values in metrics.items()}
                    self.call.metrics(last, epoch)

            safely(record)
            return False

    return _record(options, "xgboost", original, args, kwargs, Recording)


def record_lightgbm(options: Options, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Train a booster of LightGBM and record that."""

    def recording(call: Call) -> Callable[[Any], None]:
        def after_iteration(environment: Any) -> None:
            found = {f"{row[0]}.{row[1]}": row[2] for row in environment.evaluation_result_list or ()}
            safely(lambda: call.metrics(found, environment.iteration))

        return after_iteration

    return _record(options, "lightgbm", original, args, kwargs, recording)


def _record(
    options: Options,
    library: str,
    original: Callable[..., Any],
    args: Any,
    kwargs: Any,
    callback: Callable[[Call], Any],
) -> Any:
    def begin() -> Call:
        call = Call(options, f"{library} train", library)
        parameters = dict(args[0] if args else kwargs.get("params") or {})
        rounds = args[2] if len(args) > 2 else kwargs.get("num_boost_round")
        safely(lambda: call.parameters({**parameters, **({} if rounds is None else {"num_boost_round": rounds})}))
        return call

    def work(call: Call | None) -> Any:
        if call is None:
            return original(*args, **kwargs)
        return original(*args, **{**kwargs, "callbacks": [*(kwargs.get("callbacks") or ()), callback(call)]})

    def end(call: Call, booster: Any) -> None:
        best = getattr(booster, "best_iteration", None)
        if isinstance(best, int) and best > 0:
            call.metrics({"best_iteration": best})
        if options.models:
            call.file(_saved(library, booster), "model/model.json" if library == "xgboost" else "model/model.txt")

    return recorded(begin, work, end)


def _saved(library: str, booster: Any) -> bytes:
    return bytes(booster.save_raw("json")) if library == "xgboost" else booster.model_to_string().encode()


def _value(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)  # with its deviation, where folds were averaged
