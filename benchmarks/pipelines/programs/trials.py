"""Trials one after the other, with Optuna's sampler: on our platform over HTTP, or on Optuna's own SQLite storage.

`trials.py ours URL TOKEN SAMPLER TRIALS REPORTS`, `trials.py optuna FILE - SAMPLER TRIALS REPORTS`, or with `memory` in place of
FILE the same without a storage; prints seconds a trial.
"""

import json
import sys
import time
from typing import Any

SPACE = {
    "rate": (1e-5, 1e-1, "log"),
    "dropout": (0.0, 0.9),
    "momentum": (0.0, 1.0),
    "layers": (1, 8),
    "kind": ["adam", "sgd", "lion"],
}
WARM = 5


def value_of(parameters: dict[str, Any]) -> float:
    return (parameters["dropout"] - 0.3) ** 2 + (parameters["momentum"] - 0.9) ** 2 + parameters["layers"] * 0.01


def ours(url: str, token: str, sampler: str, trials: int, reports: int) -> float:
    from modelops import Client, HyperparameterTuning, TrialPruned

    def objective(trial: Any) -> float:
        value = value_of(trial.params)
        for step in range(reports):
            trial.report(value + 1 / (step + 1), step)
            if trial.should_prune():
                raise TrialPruned
        return value

    with Client(url, token=token) as client:
        tuning = HyperparameterTuning(
            f"bench {time.time_ns()}",
            objective,
            SPACE,
            sampler=sampler,
            pruner="median" if reports else None,
            backend=client,
            seed=1,
        )
        tuning.optimize(most=WARM, progress=False)
        began = time.perf_counter()
        tuning.optimize(most=trials, progress=False)
        taken = time.perf_counter() - began
        counts = tuning.study.trials
        assert counts.complete + counts.pruned == trials + WARM
    return taken / trials


def theirs(file: str, sampler: str, trials: int, reports: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        trial.suggest_float("dropout", 0.0, 0.9)
        trial.suggest_float("momentum", 0.0, 1.0)
        trial.suggest_int("layers", 1, 8)
        trial.suggest_categorical("kind", SPACE["kind"])
        value = value_of(trial.params)
        for step in range(reports):
            trial.report(value + 1 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    chosen = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler](seed=1)
    pruner = optuna.pruners.MedianPruner() if reports else optuna.pruners.NopPruner()
    storage = None if file == "memory" else f"sqlite:///{file}"
    study = optuna.create_study(storage=storage, sampler=chosen, pruner=pruner)
    study.optimize(objective, n_trials=WARM)
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return (time.perf_counter() - began) / trials


if __name__ == "__main__":
    side, where, token, sampler, trials, reports = sys.argv[1:]
    if side == "ours":
        print(json.dumps(ours(where, token, sampler, int(trials), int(reports))))
    else:
        print(json.dumps(theirs(where, sampler, int(trials), int(reports))))
