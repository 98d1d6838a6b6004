"""Decisions about comparing and grouping runs, without a database: what words mean, what differs, how wide a bucket is."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.analysis_schemas import Direction, Objective
from modelops.domains.experiments.rules import same_value

FOLDS_TAG = "folds"
"""The tag that names the split a run was measured on; runs with the same one share folds."""

TEST_SHARE_TAG = "folds.test_share"
"""The tag that tells which share of the rows each fold tests, between 0 and 1."""

FOLD_PREFIX = "fold_"
"""`fold_accuracy` holds a value of `accuracy` a fold, the fold's number as its step."""

_DATA = ("data.", "dataset", "mlflow.data.")
_CODE = ("code.", "git.", "mlflow.source.")
_DIRECTIONS = {
    **dict.fromkeys(("max", "maximize", "maximise", "higher", "desc"), Direction.MAX),
    **dict.fromkeys(("min", "minimize", "minimise", "lower", "asc"), Direction.MIN),
}
_GOOD = re.compile(r"acc|auc|f1|score|r2|precision|recall", re.IGNORECASE)
_BAD = re.compile(r"loss|err|mse|mae|rmse|mape|perplexity|latency|time|cost", re.IGNORECASE)
_CONSTRAINT = re.compile(r"\s*(?P<metric>[^<>=!`]+?)\s*(?P<operator><=|>=|!=|=|<|>)\s*(?P<bound>\S+)\s*", re.DOTALL)


def read_direction(text: str) -> Direction:
    """Return the direction that a word means, such as `max` or `minimize`.

    Raises:
        InvalidInput: it is none.
    """
    found = _DIRECTIONS.get(text.strip().lower())
    if found is None:
        raise InvalidInput(f"'{text[:60]}' is no direction.", hint="More is better: `max`; less is better: `min`.")
    return found


def read_objective(text: str) -> Objective:
    """Read `accuracy:max` or `loss:min`; without a direction, more is better.

    Raises:
        InvalidInput: the direction is none, or the metric is missing.
    """
    metric, colon, direction = text.rpartition(":")
    if not colon or direction.strip().lower() not in _DIRECTIONS:
        metric, direction = text, "max"  # a metric's own name may hold a colon
    if not metric.strip():
        raise InvalidInput(f"'{text[:60]}' names no metric.", hint="Write it such as `accuracy:max`.")
    return Objective(metric=metric.strip(), direction=read_direction(direction))


def read_objectives(texts: Iterable[str]) -> list[Objective]:
    """Read objectives.

    Raises:
        InvalidInput: one cannot be read, or a metric is named twice.
    """
    found = [read_objective(text) for text in texts]
    if len({one.metric for one in found}) < len(found):
        raise InvalidInput("An objective names a metric once.")
    return found


def guess_objective(metrics: Sequence[Mapping[str, float]]) -> Objective | None:
    """Return what runs are most likely judged by: of the metrics that most of them have, one whose name says its direction."""
    counts = Counter(key for found in metrics for key in found if not key.startswith(FOLD_PREFIX) and "`" not in key)
    if not counts:
        return None
    common = [key for key, count in counts.items() if count * 2 >= max(counts.values())]
    chief = min(common, key=lambda key: (not _GOOD.search(key), not _BAD.search(key), -counts[key], key))
    is_cost = _BAD.search(chief) and not _GOOD.search(chief)
    return Objective(metric=chief, direction=Direction.MIN if is_cost else Direction.MAX)


def read_grouping(by: str | None) -> tuple[str, str]:
    """Split `parameters.lr` or `tags.team` into what it is of and its key.

    Raises:
        InvalidInput: it is neither.
    """
    head, _, key = (by or "").partition(".")
    key = key.strip("`")
    if head not in ("parameters", "tags") or not key:
        raise InvalidInput(
            f"Runs are grouped by a parameter or a tag, not by '{(by or '')[:60]}'.",
            hint="Write it such as `parameters.lr` or `tags.team`.",
        )
    return head, key


def metric_field(metric: str) -> str:
    """Return a metric as filters and orders write it.

    Raises:
        InvalidInput: its key holds a backquote, which the grammar has no way to write.
    """
    if "`" in metric:
        raise InvalidInput(f"The metric '{metric[:60]}' holds a backquote, so no filter can name it.")
    return f"metrics.`{metric}`"


def constraint_filter(text: str) -> str:
    """Return the filter that a constraint such as `latency_ms <= 20` means.

    Raises:
        InvalidInput: it is no constraint.
    """
    match = _CONSTRAINT.fullmatch(text)
    bound = _finite(match["bound"]) if match else None
    if match is None or bound is None:
        raise InvalidInput(f"'{text[:60]}' is no constraint.", hint="Write it such as `latency_ms <= 20`.")
    return f"{metric_field(match['metric'])} {match['operator']} {bound!r}"


def both(*filters: str | None) -> str | None:
    """Join filters, all of which must hold."""
    return " and ".join(one for one in filters if one and one.strip()) or None


def differences(values: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], int]:
    """Return what differs, as key -> run -> value, and how many keys every run has with the same value.

    Args:
        values: Run -> key -> value. A run that lacks a key that another has differs in it.
    """
    keys = sorted({key for found in values.values() for key in found})
    differing: dict[str, dict[str, Any]] = {}
    for key in keys:
        present = {run: found[key] for run, found in values.items() if key in found}
        some = next(iter(present.values()))
        if len(present) < len(values) or not all(_same(some, value) for value in present.values()):
            differing[key] = present
    return differing, len(keys) - len(differing)


def split_tags(tags: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Part a run's tags into those that tell of its data, of its code, and the others."""
    parts: tuple[dict[str, str], dict[str, str], dict[str, str]] = ({}, {}, {})
    for key, value in tags.items():
        parts[0 if key.startswith(_DATA) else 1 if key.startswith(_CODE) else 2][key] = value
    return parts


def bucket_width(low: int, high: int, buckets: int) -> int:
    """Return the least width at which the integers from `low` to `high`, cut at its multiples, fall into `buckets` or fewer.

    Raises:
        ValueError: fewer than two buckets are asked for.
    """
    if buckets < 2:
        raise ValueError("At least two buckets.")
    width = max(1, -(-(high - low + 1) // buckets))
    widest = max(1, -(-(high - low) // (buckets - 1)))  # cut wherever, this is enough
    while width < widest and high // width - low // width >= buckets:
        width += max(1, (widest - width) // 2)
    return width


def share_tested(tags: Mapping[str, str], folds: int) -> float:
    """Return the share of the rows that each fold tests: as the run's tag says, or of one pass through `folds` folds."""
    told = _finite(tags.get(TEST_SHARE_TAG, ""))
    return told if told is not None and 0 < told < 1 else 1 / folds


def better(direction: Direction) -> Callable[[Sequence[float]], int]:
    """Return what finds the place of the best of some numbers; of equals, the first."""
    sign = 1 if direction is Direction.MIN else -1
    return lambda numbers: min(range(len(numbers)), key=lambda place: sign * numbers[place])


def as_number(value: Any) -> float | None:
    """Return a parameter as a number, also one that was recorded as text, as MLflow's clients do; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return _finite(str(value))


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _same(one: Any, other: Any) -> bool:
    nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return nan or same_value(one, other)
