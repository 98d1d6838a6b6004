"""Checks of how a candidate behaves: how long it takes, and what noise and missing values do to it."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import FeatureType
from modelops.domains.models.validation.columns import NUMERIC, Column, floats, objects
from modelops.domains.models.validation.schemas import Task
from modelops.domains.models.validation.trial import Contender, Finding, Trial

Array = NDArray[Any]
_WARM = 5


class LatencyCheck:
    """How long a prediction of one row takes, where the check runs: within a budget, and not much longer than the champion.

    The two are asked in turn, so that what else the machine does strikes both.

    Args:
        budget_ms: What 95 of 100 predictions may take at most; None for any time.
        slowdown: How many times the champion's median the candidate's may be.
        rows: How many rows are asked for, one by one.
    """

    name = "latency"

    def __init__(self, budget_ms: float | None = None, slowdown: float = 2.0, rows: int = 200) -> None:
        if rows < 1 or slowdown <= 0:
            raise InvalidInput("`rows` is at least 1, and `slowdown` more than 0.")
        self.budget_ms = budget_ms
        self.slowdown = slowdown
        self.rows = rows

    def run(self, trial: Trial) -> Finding:
        """Measure both."""
        took = self._measure(trial)
        figures = {
            f"{'' if role == 'candidate' else role + '.'}p{percent}_ms": float(np.percentile(times, percent))
            for role, times in took.items()
            for percent in (50, 95, 99)
        }
        said = f"{figures['p50_ms']:.3g} ms, 95 of 100 within {figures['p95_ms']:.3g} ms"
        if self.budget_ms is not None and figures["p95_ms"] > self.budget_ms:
            return Finding(False, f"{said}; the budget is {self.budget_ms:g} ms.", figures)
        if "champion" not in took:
            return Finding(True, f"{said}.", figures)
        ratio = figures["p50_ms"] / max(figures["champion.p50_ms"], 1e-9)
        return Finding(
            ratio <= self.slowdown, f"{said}; {ratio:.3g} times the champion's median.", {**figures, "ratio": ratio}
        )

    def _measure(self, trial: Trial) -> dict[str, list[float]]:
        chosen = np.linspace(0, trial.rows - 1, self.rows).round().astype(int)
        asked = {
            role: [one.inputs({name: column[[row]] for name, column in trial.columns.items()}) for row in chosen]
            for role, one in trial.contenders.items()
        }
        took: dict[str, list[float]] = {role: [] for role in asked}
        for role, one in trial.contenders.items():
            for rows in asked[role][:_WARM]:
                one.predictor.predict(rows)
        for number in range(self.rows):
            for role, one in trial.contenders.items():
                began = time.perf_counter()
                one.predictor.predict(asked[role][number])
                took[role].append((time.perf_counter() - began) * 1e3)
        return took


class NoiseCheck:
    """What is lost when numbers are not quite what they were: Gaussian noise on each feature that is a number.

    Args:
        scale: The noise's standard deviation, as a share of the feature's own.
        max_loss: How much of the mean score may be lost; of a regression, as a share of the mean error.
        repeats: How many times noise is drawn.
    """

    name = "noise"

    def __init__(self, scale: float = 0.1, max_loss: float = 0.05, repeats: int = 5) -> None:
        if scale <= 0 or repeats < 1:
            raise InvalidInput("`scale` is more than 0, and `repeats` at least 1.")
        self.scale = scale
        self.max_loss = max_loss
        self.repeats = repeats

    def run(self, trial: Trial) -> Finding:
        """Add noise, and compare with the predictions without."""
        names = [one.name for one in trial.candidate.signature.inputs if one.type in NUMERIC]
        if not names:
            return Finding(True, "No feature is a number.")
        whole = {one.name for one in trial.candidate.signature.inputs if one.type is FeatureType.INTEGER}
        luck = np.random.default_rng(trial.seed)
        losses = [_loss(trial, self._noisy(trial, names, whole, luck)) for _ in range(self.repeats)]
        return _judged(float(np.mean(losses)), self.max_loss, f"noise of {self.scale:g} standard deviations")

    def _noisy(self, trial: Trial, names: list[str], whole: set[str], luck: np.random.Generator) -> dict[str, Column]:
        changed = dict(trial.columns)
        for name in names:
            numbers = floats(name, trial.columns[name])
            spread = float(np.nanstd(numbers)) if not np.isnan(numbers).all() else 0.0
            noisy = numbers + luck.normal(0.0, self.scale * spread, len(numbers))
            changed[name] = np.round(noisy) if name in whole else noisy
        return changed


class MissingValuesCheck:
    """What is lost when values are missing, in the features of which the signature says that they may be.

    Args:
        share: Of the cells that are emptied.
        max_loss: How much of the mean score may be lost; of a regression, as a share of the mean error.
        repeats: How many times cells are drawn.
    """

    name = "missing"

    def __init__(self, share: float = 0.1, max_loss: float = 0.1, repeats: int = 5) -> None:
        if not 0 < share <= 1 or repeats < 1:
            raise InvalidInput("`share` is more than 0 and at most 1, and `repeats` at least 1.")
        self.share = share
        self.max_loss = max_loss
        self.repeats = repeats

    def run(self, trial: Trial) -> Finding:
        """Empty cells, and compare with the predictions on what was there."""
        names = [one.name for one in trial.candidate.signature.inputs if not one.required]
        if not names:
            return Finding(True, "Every feature is required: rows that lack one are refused before the model is asked.")
        luck = np.random.default_rng(trial.seed)
        try:
            losses = [_loss(trial, self._emptied(trial, names, luck)) for _ in range(self.repeats)]
        except InvalidInput:
            raise
        except Exception as wrong:
            return Finding(False, f"It fails on rows with missing values: {type(wrong).__name__}: {str(wrong)[:300]}")
        return _judged(float(np.mean(losses)), self.max_loss, f"{self.share:.0%} of values missing")

    def _emptied(self, trial: Trial, names: list[str], luck: np.random.Generator) -> dict[str, Column]:
        changed = dict(trial.columns)
        for name in names:
            column = trial.columns[name]
            emptied = column.astype(np.float64) if column.dtype.kind in "fiu" else objects(column.tolist())
            emptied[luck.random(len(column)) < self.share] = np.nan if emptied.dtype.kind == "f" else None
            changed[name] = emptied
        return changed


def _loss(trial: Trial, columns: Mapping[str, Column]) -> float:
    contender: Contender = trial.candidate
    clean = float(trial.scores["candidate"].mean())
    changed = float(trial.score(contender.predict(columns)).mean())
    if trial.task is Task.CLASSIFICATION:
        return clean - changed
    return (clean - changed) / (-clean or 1.0)


def _judged(loss: float, allowed: float, what: str) -> Finding:
    said = f"{what[0].upper()}{what[1:]} costs {loss:.3g} of the score; {allowed:g} is allowed."
    return Finding(loss <= allowed, said, {"loss": loss})
