"""Searching runs by MLflow's filters and orders."""

from typing import Annotated, Any

import msgspec

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.experiments.searching import Condition, Kind, Order, search_runs
from modelops.domains.mlflow.experiments import DEFAULT_ID, find_experiment, view_of
from modelops.domains.mlflow.filters import Comparison, Field, Grammar
from modelops.domains.mlflow.protocol import api, moment_of
from modelops.domains.mlflow.runs import STATUSES, USER, render
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of
from modelops.kernel.door import Answer

_ATTRIBUTES = {
    "run_id": "id",
    "run_name": "name",
    "status": "status",
    "start_time": "started_at",
    "end_time": "ended_at",
    "experiment_id": "experiment_id",
    "user_id": "created_by",
    "artifact_uri": "id",
}
_EXPERIMENTS = 10_000
_TIMES = frozenset({"start_time", "end_time"})
_KINDS: dict[str, Kind] = {"metric": "metric", "param": "parameter", "tag": "tag"}
_GRAMMAR = Grammar(
    {
        "attribute": Field(
            numbers=_TIMES,
            keys=frozenset(_ATTRIBUTES),
            lists=frozenset(_ATTRIBUTES) - _TIMES,
            ordered=frozenset(_ATTRIBUTES),
        ),
        "metric": Field(numbers=True),
        "param": Field(nullable=True),
        "tag": Field(nullable=True),
    },
    {
        **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
        **dict.fromkeys(("metric", "metrics"), "metric"),
        **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
        **dict.fromkeys(("tag", "tags"), "tag"),
    },
    {
        "created": "start_time",
        "Created": "start_time",
        "Run Name": "run_name",
        "Run name": "run_name",
        "run name": "run_name",
    },
)


class SearchRuns(msgspec.Struct):
    """The body of `runs/search`."""

    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: str | int = "ACTIVE_ONLY"
    max_results: Annotated[int, msgspec.Meta(ge=0, le=50_000)] = 1_000
    order_by: list[str] = []
    page_token: str = ""


@api("POST", "2.0/mlflow/runs/search", reads=True)
def search(ctx: Context, body: SearchRuns) -> Answer:
    """Search runs in experiments."""
    ctx.require("experiments.read")
    experiments = list(dict.fromkeys(body.experiment_ids))
    if len(experiments) > _EXPERIMENTS:
        raise InvalidInput(f"A search looks in at most {_EXPERIMENTS} experiments; these are {len(experiments)}.")
    if DEFAULT_ID in experiments:
        experiments = [_default(ctx) if one == DEFAULT_ID else one for one in experiments]
    found, further = search_runs(
        raw_of(ctx.session),
        ctx.project_id,
        experiments=experiments,
        conditions=[_condition(part) for part in _GRAMMAR.read_filter(body.filter)],
        orders=[_order(kind, key, down) for kind, key, down in _GRAMMAR.read_orders(body.order_by)],
        deleted=view_of(body.run_view_type),
        limit=body.max_results or 1_000,
        cursor=body.page_token or None,
    )
    token = {"next_page_token": further} if further else {}
    return {"runs": render(ctx, found), **token}


def _default(ctx: Context) -> str:
    try:
        return find_experiment(ctx, DEFAULT_ID).id
    except NotFound:
        return DEFAULT_ID


def _condition(part: Comparison) -> Condition:
    if part.kind != "attribute":
        return Condition(_KINDS[part.kind], part.key, part.operator, part.value)
    if part.key == "user_id":
        return Condition("tag", USER, part.operator, part.value)
    value: Any = part.value
    if part.key in _TIMES:
        value = moment_of(int(value), part.key)
    elif part.key == "status":
        value = [_status(one) for one in value] if isinstance(value, list) else _status(value, part.operator)
    elif part.key == "artifact_uri":
        raise InvalidInput("Runs are not searched by artifact_uri here: it follows from the run's id.")
    return Condition("attribute", _ATTRIBUTES[part.key], part.operator, value)


def _status(name: str, operator: str = "=") -> str:
    """Return MLflow's name of a status as ours; a pattern is matched against ours in capitals by nobody, so it is refused."""
    if operator in ("LIKE", "ILIKE"):
        raise InvalidInput("A status is compared by =, != or IN.")
    return str(STATUSES.get(name.upper(), name))


def _order(kind: str, key: str, descending: bool) -> Order:
    if kind != "attribute":
        return Order(_KINDS[kind], key, descending)
    return Order("tag", USER, descending) if key == "user_id" else Order("attribute", _ATTRIBUTES[key], descending)
