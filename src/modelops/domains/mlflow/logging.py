"""What MLflow's clients log on a run: metrics, parameters and tags, one at a time or in batches."""

import msgspec
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.experiments.ingest import Batch, ParameterEntry, Point, log, open_run, parameter_entry, point
from modelops.domains.experiments.keys import number_keys
from modelops.domains.experiments.lifecycle import Change, change_run
from modelops.domains.mlflow.model_metrics import ModelMetric, record_model_metrics
from modelops.domains.mlflow.names import (
    DATASET_DIGEST,
    DATASET_NAME,
    PARAMETER,
    check_key,
    check_length,
    in_mlflows_words,
    quoted,
    required,
)
from modelops.domains.mlflow.protocol import api
from modelops.domains.mlflow.runs import (
    RUN_NAME,
    RUN_NAME_LENGTH,
    RunById,
    check_tag,
)
from modelops.kernel.database import Raw
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

_METRICS, _LABELS, _ALL = 1_000, 100, 1_000
"""How many metrics, how many parameters or tags, and how many in all a batch may hold."""

_LATEST_MS = 253_402_300_799_999


class Metric(msgspec.Struct, gc=False):
    """A point of a metric."""

    key: str
    value: float | str
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class Parameter(msgspec.Struct):
    """A parameter."""

    key: str
    value: str = ""


class Tag(msgspec.Struct):
    """A tag."""

    key: str
    value: str = ""


class LogBatch(msgspec.Struct):
    """The body of `runs/log-batch`."""

    run_id: str
    metrics: list[Metric] = []
    params: list[Parameter] = []
    tags: list[Tag] = []


class LogMetric(RunById, kw_only=True):
    """The body of `runs/log-metric`."""

    key: str
    value: float | str
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogParameter(RunById, kw_only=True):
    """The body of `runs/log-parameter`."""

    key: str
    value: str = ""


class SetTag(RunById, kw_only=True):
    """The body of `runs/set-tag`."""

    key: str
    value: str = ""


class DeleteTag(RunById, kw_only=True):
    """The body of `runs/delete-tag`."""

    key: str


@api("POST", "2.0/mlflow/runs/log-batch")
async def log_batch(scope: Scope, body: LogBatch) -> Answer:
    """Log metrics, parameters and tags: all of them, or none."""
    run = required(body.run_id, "run_id")
    _check_size("metrics", len(body.metrics), _METRICS)
    _check_size("params", len(body.params), _LABELS)
    _check_size("tags", len(body.tags), _LABELS)
    _check_size("metrics, params, and tags", len(body.metrics) + len(body.params) + len(body.tags), _ALL)
    await _log(scope, run, body.metrics, body.params, body.tags)


@api("POST", "2.0/mlflow/runs/log-metric")
async def log_metric(scope: Scope, body: LogMetric) -> Answer:
    """Log one point of a metric."""
    metric = Metric(
        body.key, body.value, body.timestamp, body.step, body.model_id, body.dataset_name, body.dataset_digest
    )
    await _log(scope, body.run, [metric], [], [], alone=True)


@api("POST", "2.0/mlflow/runs/log-parameter")
async def log_parameter(scope: Scope, body: LogParameter) -> Answer:
    """Log a parameter."""
    await _log(scope, body.run, [], [Parameter(body.key, body.value)], [], alone=True)


@api("POST", "2.0/mlflow/runs/set-tag")
async def set_tag(scope: Scope, body: SetTag) -> Answer:
    """Set a tag."""
    await _log(scope, body.run, [], [], [Tag(body.key, body.value)], alone=True)


@api("POST", "2.0/mlflow/runs/delete-tag")
async def delete_tag(scope: Scope, body: DeleteTag) -> Answer:
    """Drop a tag."""
    run = body.run

    def drop(raw: Raw) -> None:
        opened = open_run(raw, scope.actor, run, ended_too=True)
        gone = raw.execute("DELETE FROM run_tags WHERE run_number = ? AND key = ?", (opened.number, body.key))
        if not gone.rowcount:
            raise _NoTag(f"No tag with name: {body.key} in run with id {run}")

    try:
        with in_mlflows_words(run):
            await scope.write(drop, permission="runs.write", order=run)
    except NotFound as absent:
        raise (absent.__cause__ if isinstance(absent.__cause__, _NoTag) else absent) from None


class _NoTag(NotFound):
    """The run has no such tag."""

    code, title = "mlflow.tag_not_found", "No such tag"


async def _log(
    scope: Scope,
    run: str,
    metrics: list[Metric],
    params: list[Parameter],
    tags: list[Tag],
    *,
    alone: bool = False,
) -> None:
    """Log on a run; `alone` tells that the request names one thing and not lists of them."""
    points = await _points(scope, metrics, alone=alone)
    batch = Batch(points, _parameters(params, alone=alone), [(tag.key, tag.value) for tag in tags])
    for index, tag in enumerate(tags):
        check_tag(tag.key, tag.value, "" if alone else f"tags[{index}].")
    with in_mlflows_words(run):
        await log(scope, run, batch, ended_too=True, by_text=True)
        for tag in tags:
            if tag.key == RUN_NAME:
                check_length(tag.value, RUN_NAME_LENGTH, "run_name")
                await change_run(scope, run, Change(name=tag.value))
    if any(metric.model_id for metric in metrics):
        await run_in_threadpool(_log_on_models, scope, run, metrics)


def _log_on_models(scope: Scope, run: str, metrics: list[Metric]) -> None:
    points = [
        ModelMetric(
            metric.model_id,
            metric.key,
            float(metric.value),
            metric.timestamp * 1_000,
            metric.step,
            metric.dataset_name,
            metric.dataset_digest,
        )
        for metric in metrics
        if metric.model_id
    ]
    for metric in metrics:
        check_length(metric.dataset_name, DATASET_NAME, "dataset_name")
        check_length(metric.dataset_digest, DATASET_DIGEST, "dataset_digest")
    with scope.work() as ctx:
        record_model_metrics(ctx, run, points)


async def _points(scope: Scope, metrics: list[Metric], *, alone: bool) -> list[Point]:
    if not metrics:
        return []
    keys = {metric.key for metric in metrics}
    try:
        for key in keys:
            check_key(key, "name")
    except InvalidInput:
        _name_first_wrong(metrics, alone=alone)
        raise
    times = [metric.timestamp for metric in metrics]
    if min(times) < 0 or max(times) > _LATEST_MS:
        index = next(i for i, time in enumerate(times) if not 0 <= time <= _LATEST_MS)
        raise InvalidInput(
            f"Invalid value {times[index]} for parameter '{_path(index, 'timestamp', alone)}' supplied: metric "
            f"'{metrics[index].key}' (value={metrics[index].value}). Timestamp must be a nonnegative long (64-bit integer)"
        )
    numbers = await number_keys(scope, keys)
    try:
        return [
            (numbers[metric.key], metric.timestamp * 1_000, metric.step, metric.value + 0.0, False)
            if metric.value.__class__ is float  # JSON has no NaN: that comes as a text
            else point(numbers[metric.key], metric.timestamp * 1_000, metric.step, float(metric.value))
            for metric in metrics
        ]
    except ValueError:
        index = next(i for i, metric in enumerate(metrics) if not _is_number(metric.value))
        raise InvalidInput(
            f"Invalid value {quoted(str(metrics[index].value))} for parameter '{_path(index, 'value', alone)}' supplied: "
            f"(timestamp={times[index]}). Please specify value as a valid double (64-bit floating point)"
        ) from None


def _name_first_wrong(metrics: list[Metric], *, alone: bool) -> None:
    for index, metric in enumerate(metrics):
        check_key(metric.key, _path(index, "name", alone))


def _parameters(params: list[Parameter], *, alone: bool) -> list[ParameterEntry]:
    seen: set[str] = set()
    twice = [param.key for param in params if param.key in seen or seen.add(param.key)]  # type: ignore[func-returns-value]
    if twice:
        raise InvalidInput(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param "
            "value per param key."
        )
    for index, param in enumerate(params):
        check_key(param.key, _path(index, "key", alone, "params"))
        check_length(param.value, PARAMETER, _path(index, "value", alone, "params"))
    return [parameter_entry(param.key, param.value) for param in params]


def _path(index: int, name: str, alone: bool, group: str = "metrics") -> str:
    return name if alone else f"{group}[{index}].{name}"


def _is_number(value: float | str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _check_size(what: str, length: int, limit: int) -> None:
    if length > limit:
        raise InvalidInput(
            f"A batch logging request can contain at most {limit} {what}. Got {length} {what}. Please split up {what} "
            "across multiple requests and try again."
        )
