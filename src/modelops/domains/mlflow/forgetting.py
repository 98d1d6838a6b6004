"""What goes when an experiment is removed for good: what only MLflow knows of it."""

from collections.abc import Iterator, Sequence
from itertools import islice

from sqlalchemy import delete, select

from modelops.contracts.events import Event
from modelops.domains.mlflow.files import MODELS, TRACES, forget_files
from modelops.domains.mlflow.tables import (
    DatasetInputRow,
    DatasetRow,
    LoggedModelMetricRow,
    LoggedModelRow,
    RunModelRow,
)
from modelops.domains.mlflow.traces.managing import forget_traces
from modelops.kernel.context import Context

_AT_ONCE = 500


def forget_experiment(ctx: Context, event: Event) -> None:
    """Delete the traces, logged models and dataset inputs of an experiment that was removed, and their files."""
    for traces in _chunks(forget_traces(ctx, event.subject)):
        forget_files(ctx, TRACES, traces)
    wanted = LoggedModelRow.project_id == ctx.project_id, LoggedModelRow.experiment_id == event.subject
    for models in _chunks(list(ctx.session.scalars(select(LoggedModelRow.id).where(*wanted)))):
        forget_files(ctx, MODELS, models)
        ctx.session.execute(delete(LoggedModelMetricRow).where(LoggedModelMetricRow.model_id.in_(models)))
        ctx.session.execute(delete(RunModelRow).where(RunModelRow.model_id.in_(models)))
        ctx.session.execute(delete(LoggedModelRow).where(LoggedModelRow.id.in_(models)))
    datasets = select(DatasetRow.id).where(
        DatasetRow.project_id == ctx.project_id, DatasetRow.experiment_id == event.subject
    )
    ctx.session.execute(delete(DatasetInputRow).where(DatasetInputRow.dataset_id.in_(datasets)))
    ctx.session.execute(delete(DatasetRow).where(DatasetRow.id.in_(datasets)))


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
