"""The live view of deployments in a terminal; lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelops.contracts.clock import SystemClock
from modelops.contracts.errors import NotFound, Unavailable
from modelops.contracts.terminal import note

if TYPE_CHECKING:
    from modelops.domains.serving.client import Serving
    from modelops.domains.serving.live.live import LiveStats, LiveVariant

_AT_ONCE = 8
_MOST = 100
_TICKS = 30
_BARS = "▁▂▃▄▅▆▇█"
_SPARE = ("scaling", "restarts", "p50", "p99", "rev", "wait p95", "req/s lately", "err %", "queue", "in flight")
"""Columns that a narrow terminal goes without, the first to go first."""

_STYLES = {"ready": "green", "progressing": "yellow", "idle": "cyan", "stopped": "dim"}

Rates = dict[str, deque[float]]


def watch_deployments(
    serving: "Serving", name: str | None, *, every_s: float, once: bool, as_json: bool, ticks: int | None = None
) -> None:
    """Show what deployments do, again and again: as a table that is redrawn on a terminal, else a line each.

    Args:
        name: A deployment; None for all of the project.
        every_s: Seconds from tick to tick.
        ticks: How many at most; None for no end.
    """
    rates: Rates = {}
    left = 1 if once else ticks
    with _screen(as_json, live=not once) as draw:
        while left is None or left > 0:
            began = time.monotonic()
            try:
                draw(_look(serving, name), rates)
            except Unavailable as wrong:
                if once:
                    raise
                note(str(wrong))
            left = None if left is None else left - 1
            if left is None or left > 0:
                time.sleep(max(0.0, began + every_s - time.monotonic()))


def spark(values: Sequence[float]) -> str:
    """Return a line of bars, a value each, as high as its share of the highest."""
    highest = max(values, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / highest * len(_BARS)))] for value in values)


def line(stats: "LiveStats") -> str:
    """Return what is known of a deployment in one line, for a log."""
    said = (
        f"{stats.deployment}: {stats.state}, {stats.ready_replicas} of {stats.replicas} replicas, "
        f"{stats.requests_per_s:.1f} req/s, {_number(stats.errors_percent)} % errors, p50 {_ms(stats.p50_ms)}, "
        f"p95 {_ms(stats.p95_ms)}, p99 {_ms(stats.p99_ms)}, {stats.inflight} in flight, {stats.queue_depth} queued, "
        f"wait p95 {_ms(stats.queue_wait_p95_ms)}"
    )
    if stats.held:
        said = f"{said}, {stats.held} held"
    return said


def _look(serving: "Serving", name: str | None) -> list["LiveStats"]:
    if name is not None:
        return [serving.read_live_stats(name)]
    ids = [one.id for one in serving.list_deployments(limit=_MOST, order_by="name").items]
    if not ids:
        return []
    with ThreadPoolExecutor(min(len(ids), _AT_ONCE)) as pool:
        return [found for found in pool.map(lambda each: _if_there(serving, each), ids) if found is not None]


def _if_there(serving: "Serving", deployment: str) -> "LiveStats | None":
    try:
        return serving.read_live_stats(deployment)
    except NotFound:  # it was deleted between the listing and the look
        return None


@contextmanager
def _screen(as_json: bool, *, live: bool) -> Iterator[Callable[[list["LiveStats"], Rates], None]]:
    if as_json:
        yield _print_json
    elif not sys.stdout.isatty():
        yield _print_lines
    else:
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False)
        if not live:
            yield lambda found, rates: console.print(table(found, rates, console.width))
            return
        with Live(console=console, auto_refresh=False) as screen:
            yield lambda found, rates: screen.update(table(found, rates, console.width), refresh=True)


def _print_json(found: list["LiveStats"], _rates: Rates) -> None:
    from pydantic_core import to_json

    at = SystemClock().now().isoformat()
    sys.stdout.write(to_json({"at": at, "deployments": found}).decode() + "\n")
    sys.stdout.flush()


def _print_lines(found: list["LiveStats"], _rates: Rates) -> None:
    at = SystemClock().now().strftime("%H:%M:%S")
    lines = [f"{at} {line(stats)}" for stats in found] or [f"{at} There are no deployments."]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def table(found: list["LiveStats"], rates: Rates, width: int) -> Any:
    """Return the view as a table, and add what was seen to `rates`, by deployment id.

    Args:
        width: Characters of a line; columns that do not fit are left out.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    rows, remarks = [], []
    for stats in found:
        lately = rates.setdefault(stats.deployment_id, deque(maxlen=_TICKS))
        lately.append(stats.requests_per_s)
        rows.append(_row(stats, lately))
        if len(stats.variants) > 1:
            rows += [{"deployment": f"  {one.name}", **_asked(one)} for one in stats.variants]
        remarks += [f"{stats.deployment}: {said}" for said in (stats.reason, stats.remark) if said]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    heads = _fitting(rows, width)
    for head in heads:
        drawn.add_column(head, no_wrap=True)
    for row in rows:
        style = _STYLES.get(row.get("state", ""), "red")
        cells = {name: escape(cell) for name, cell in row.items()}
        if "state" in row:
            cells["state"] = f"[{style}]{cells['state']}[/{style}]"
        drawn.add_row(*(cells.get(head, "") for head in heads))
    drawn.caption = escape("\n".join(remarks) if found else "There are no deployments.")
    drawn.caption_justify = "left"
    return drawn


def _row(stats: "LiveStats", lately: Sequence[float]) -> dict[str, str]:
    """Return the cells of a deployment by their heads, in their order."""
    return {
        "deployment": f"{stats.deployment} {stats.model}:{stats.model_version}",
        "state": stats.state,
        "rev": _revision(stats),
        "replicas": f"{stats.ready_replicas}/{stats.replicas}",
        "in flight": str(stats.inflight),
        "queue": f"{stats.queue_depth}" + (f" +{stats.held} held" if stats.held else ""),
        **_asked(stats),
        "restarts": str(stats.restarts),
        "scaling": _scaling(stats),
        "req/s lately": spark(lately),
    }


def _fitting(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """Return the heads of the columns that fit into a line."""
    if not rows:
        return ["deployment", "state", "replicas"]
    widths = {head: max(len(head), *(len(row.get(head, "")) for row in rows)) for head in rows[0]}
    for spare in _SPARE:
        if sum(widths.values()) + 3 * len(widths) <= width:
            break
        del widths[spare]
    return list(widths)


def _asked(stats: "LiveStats | LiveVariant") -> dict[str, str]:
    """Return the cells on requests of a deployment or a variant."""
    return {
        "req/s": f"{stats.requests_per_s:.1f}",
        "err %": _number(stats.errors_percent),
        "p50": _ms(stats.p50_ms),
        "p95": _ms(stats.p95_ms),
        "p99": _ms(stats.p99_ms),
        "wait p95": _ms(stats.queue_wait_p95_ms),
    }


def _revision(stats: "LiveStats") -> str:
    active = "-" if stats.active_revision is None else str(stats.active_revision)
    return active if stats.active_revision == stats.wanted_revision else f"{active}→{stats.wanted_revision}"


def _scaling(stats: "LiveStats") -> str:
    policy = stats.autoscaling
    if policy is None:
        return "-"
    what = f"at {policy.target_inflight:g}" if policy.by == "requests" else f"by {policy.by}"
    return f"{policy.min_replicas}-{policy.max_replicas} {what}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms"
