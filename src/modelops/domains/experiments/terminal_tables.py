"""Runs and what is made of them, as a terminal shows it: tables, bars and lines of block characters."""

from collections.abc import Iterable, Sequence
from typing import Any

from modelops.contracts.schemas import Page, jsonable
from modelops.contracts.terminal import say, show_rows
from modelops.domains.experiments.analysis_schemas import Difference, MetricBuckets, MetricDifference
from modelops.domains.experiments.schemas import Run

_LEVELS = "▁▂▃▄▅▆▇█"
_BAR = 24
_KEYED = ("metrics", "parameters", "tags")


def show_runs(page: Page[Run], columns: Sequence[str], *, empty: str) -> None:
    """Print runs with the columns named, such as `name`, `parameters.lr` and `metrics.loss`."""
    rows = [{column: _reach(run, column) for column in columns} for run in page.items]
    show_table(rows, columns, empty=empty, more=page.next_cursor)


def show_table(rows: Iterable[dict[str, Any]], columns: Sequence[str], *, empty: str, more: str | None = None) -> None:
    """Print rows under headings that may hold dots, of which the last part is shown for `metrics.…` and the like."""
    heads = [_head(column) for column in columns]
    plain = [{head: row.get(column) for head, column in zip(heads, columns, strict=True)} for row in rows]
    show_rows(plain, heads, as_json=False, empty=empty, more=more)


def show_differences(
    title: str, found: Sequence[Difference | MetricDifference], runs: Sequence[Run], alike: int
) -> None:
    """Print what differs, a row a key and a column a run; nothing where there was nothing to compare."""
    if not found and not alike:
        return
    shared = f"{alike} the same in all of them" if alike else "none the same in all of them"
    say(f"{title}: {len(found)} differ, {shared}.")
    if found:
        names = _columns(runs)
        rows = [
            {"": one.key, **{name: one.values.get(run.id) for name, run in zip(names, runs, strict=True)}}
            for one in found
        ]
        show_table(rows, ["", *names], empty="")


def bar(share: float) -> str:
    """Return a bar of a share between 0 and 1."""
    filled = round(max(0.0, min(1.0, share)) * _BAR)
    return "█" * filled + "·" * (_BAR - filled)


def line(curve: MetricBuckets, low: float, high: float, width: int = 60) -> str:
    """Return a curve as one line of blocks, on a scale that other curves may share.

    Each place shows what lies farthest from the middle of the scale in its stretch, so that a spike of one step is seen.
    """
    columns: list[list[float]] = [[] for _ in range(width)]
    for place, bucket in enumerate(curve.buckets):
        known = [value for value in (bucket.minimum, bucket.maximum) if value is not None]
        columns[place * width // len(curve.buckets)] += known
    if high == low:
        return "".join(_LEVELS[3] if column else " " for column in columns[: max(1, len(curve.buckets))])
    shown = []
    for column in columns:
        if not column:
            continue
        farthest = max(column, key=lambda value: abs(value - (low + high) / 2))
        level = (farthest - low) / (high - low)
        shown.append(_LEVELS[round(max(0.0, min(1.0, level)) * (len(_LEVELS) - 1))])
    return "".join(shown)


def _columns(runs: Sequence[Run]) -> list[str]:
    """Return each run's name, with the end of its id where another has the same."""
    names = [run.name for run in runs]
    return [f"{run.name} {run.id[-6:]}" if names.count(run.name) > 1 else run.name for run in runs]


def _reach(run: Run, column: str) -> Any:
    head, _, key = column.partition(".")
    return getattr(run, head).get(key) if head in _KEYED else jsonable(getattr(run, column))


def _head(column: str) -> str:
    head, _, key = column.partition(".")
    return (key if head in _KEYED and key else column).replace(".", "·")  # a dot would reach into the row
