"""The histories of metrics, as MLflow reads them."""

from typing import Any

import msgspec

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.history import Place, read_points, sample_points
from modelops.domains.experiments.searching import find_runs
from modelops.domains.mlflow.names import required
from modelops.domains.mlflow.protocol import api, number
from modelops.domains.mlflow.runs import RunById, find_run
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of
from modelops.kernel.door import Answer

_WHOLE = 1_000_000_000
_BULK_RUNS, _BULK_POINTS, _INTERVAL_POINTS = 100, 25_000, 2_500


class GetHistory(RunById, kw_only=True):
    """The query of `metrics/get-history`."""

    metric_key: str
    page_token: str = ""
    max_results: int | None = None


class GetHistoryBulk(msgspec.Struct):
    """The query of `metrics/get-history-bulk`."""

    run_id: list[str] = []
    metric_key: str | None = None
    max_results: int = _BULK_POINTS


class GetHistoryInterval(msgspec.Struct):
    """The query of `metrics/get-history-bulk-interval`."""

    run_ids: list[str]
    metric_key: str
    start_step: int | None = None
    end_step: int | None = None
    max_results: int = _INTERVAL_POINTS


@api("GET", "2.0/mlflow/metrics/get-history")
def get_metric_history(ctx: Context, query: GetHistory) -> Answer:
    """Return the points of a metric by time and step: all of them, or a page."""
    ctx.require("experiments.read")
    if query.max_results is not None and query.max_results <= 0:
        raise InvalidInput(
            f"Invalid value {query.max_results} for parameter 'max_results' supplied. It must be a positive integer."
        )
    raw = raw_of(ctx.session)
    run = find_run(raw, ctx.project_id, query.run)
    limit = query.max_results or _WHOLE
    found = read_points(raw, run.number, query.metric_key, limit, query.page_token or None)
    token = {"next_page_token": found.further} if found.further else {}
    return {"metrics": [_as_json(query.metric_key, place) for place in found.places], **token}


@api("GET", "2.0/mlflow/metrics/get-history-bulk")
def get_metric_history_bulk(ctx: Context, query: GetHistoryBulk) -> Answer:
    """Return the points of a metric of several runs."""
    ctx.require("experiments.read")
    if not query.run_id:
        raise InvalidInput("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(query.run_id) > _BULK_RUNS:
        raise InvalidInput(
            f"GetMetricHistoryBulk request cannot specify more than {_BULK_RUNS} run_ids. "
            f"Received {len(query.run_id)} run_ids."
        )
    if query.metric_key is None:
        raise InvalidInput("GetMetricHistoryBulk request must specify a metric_key.")
    raw = raw_of(ctx.session)
    limit = max(0, min(query.max_results, _BULK_POINTS))
    metrics: list[dict[str, Any]] = []
    for run in sorted(find_runs(raw, ctx.project_id, sorted(set(query.run_id))), key=lambda run: run.id):
        if len(metrics) >= limit:
            break
        found = read_points(raw, run.number, query.metric_key, limit - len(metrics), None)
        metrics += [{**_as_json(query.metric_key, place), "run_id": run.id} for place in found.places]
    return {"metrics": metrics}


@api("GET", "2.0/mlflow/metrics/get-history-bulk-interval")
def get_metric_history_bulk_interval(ctx: Context, query: GetHistoryInterval) -> Answer:
    """Return points of a metric of several runs, so many of each, spread over the steps; the first and last among them."""
    ctx.require("experiments.read")
    if len(query.run_ids) > _BULK_RUNS:
        raise InvalidInput(
            f"GetMetricHistoryBulkInterval request must specify at most {_BULK_RUNS} run_ids. "
            f"Received {len(query.run_ids)} run_ids."
        )
    if not 1 <= query.max_results <= _INTERVAL_POINTS:
        raise InvalidInput(f"max_results must be between 1 and {_INTERVAL_POINTS}. Found {query.max_results}.")
    key = required(query.metric_key, "metric_key")
    start, end = query.start_step, query.end_step
    if (start is None) != (end is None):
        raise InvalidInput("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise InvalidInput(f"end_step must be greater than start_step. Found start_step={start} and end_step={end}.")
    raw = raw_of(ctx.session)
    runs = sorted(find_runs(raw, ctx.project_id, sorted(set(query.run_ids))), key=lambda run: run.id)
    places = sample_points(raw, [run.number for run in runs], key, query.max_results, start, end)
    metrics = [
        {**_as_json(key, place), "run_id": run.id} for run, found in zip(runs, places, strict=True) for place in found
    ]
    return {"metrics": metrics}


def _as_json(key: str, place: Place) -> dict[str, Any]:
    time_us, step, value, is_nan = place
    return {"key": key, "value": number(value, is_nan), "timestamp": time_us // 1_000, "step": step}
