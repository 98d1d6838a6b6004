"""Payloads of saved views: a name for a filter, an order, columns and a grouping of runs."""

from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Name, Schema, UtcTime

_Filter = Annotated[str | None, Field(max_length=4_000, description="As in the listing of runs.")]
_Order = Annotated[str | None, Field(max_length=300, description="As in the listing of runs.")]
_Column = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]+$")]
_Columns = Annotated[
    list[_Column], Field(max_length=100, description="Such as `parameters.lr`, `metrics.loss`, `status`.")
]
_GroupBy = Annotated[str | None, Field(max_length=300, description="`parameters.<key>` or `tags.<key>`.")]
_Metric = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00]+$")]
_Metrics = Annotated[list[_Metric], Field(max_length=20, description="`<key>:max` or `<key>:min`, told of each group.")]


class ViewCreate(Schema):
    """A new view of runs. A shared one is everybody's in the project; another is its maker's alone."""

    name: Name
    experiment: Annotated[str | None, Field(max_length=250, description="Only of this experiment.")] = None
    filter: _Filter = None
    order_by: _Order = None
    columns: _Columns = []
    group_by: _GroupBy = None
    metrics: _Metrics = []
    shared: bool = False


class ViewUpdate(Schema):
    """What may change on a view; a field left out stays, and a text of nothing takes it away."""

    name: Name | None = None
    filter: _Filter = None
    order_by: _Order = None
    columns: _Columns | None = None
    group_by: _GroupBy = None
    metrics: _Metrics | None = None
    shared: bool | None = None


class View(Schema):
    """A saved view of runs."""

    id: str
    project_id: str
    name: str
    experiment_id: str | None
    filter: str | None
    order_by: str | None
    columns: list[str]
    group_by: str | None
    metrics: list[str]
    shared: bool
    created_at: UtcTime
    created_by: str
    revision: int
