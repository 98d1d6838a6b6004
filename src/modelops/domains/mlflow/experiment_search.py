"""The search for MLflow's experiments."""

from contextlib import suppress
from typing import Annotated

import msgspec

from modelops.contracts.errors import PermissionDenied
from modelops.domains.experiments import service
from modelops.domains.experiments.searching import Condition, Order
from modelops.domains.mlflow.experiments import as_json, default_id, view_of
from modelops.domains.mlflow.filters import Field, Grammar
from modelops.domains.mlflow.protocol import api, moment_of
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

PageSize = Annotated[int, msgspec.Meta(ge=1, le=50_000)]

_ATTRIBUTES = {"name": "name", "experiment_id": "id", "creation_time": "created_at", "last_update_time": "changed_at"}
_TIMES = frozenset({"creation_time", "last_update_time"})
_GRAMMAR = Grammar(
    {
        "attribute": Field(
            numbers=_TIMES,
            keys=frozenset(_ATTRIBUTES),
            lists=frozenset({"experiment_id"}),
            ordered=frozenset(_ATTRIBUTES),
        ),
        "tag": Field(nullable=True, ordered=frozenset()),
    },
    {"attribute": "attribute", "tag": "tag", "tags": "tag"},
)


class SearchExperiments(msgspec.Struct):
    """The body of `experiments/search`."""

    max_results: PageSize = 1_000
    filter: str = ""
    order_by: list[str] = []
    view_type: str | int = "ACTIVE_ONLY"
    page_token: str = ""


@api("POST", "2.0/mlflow/experiments/search", reads=True)
def search_experiments(scope: Scope, body: SearchExperiments) -> Answer:
    """Search experiments."""
    return _search(scope, body)


@api("GET", "2.0/mlflow/experiments/search")
def list_experiments(scope: Scope, query: SearchExperiments) -> Answer:
    """Search experiments, as pages do."""
    return _search(scope, query)


def _search(scope: Scope, body: SearchExperiments) -> Answer:
    conditions = [
        Condition(
            "tag" if part.kind == "tag" else "attribute",
            part.key if part.kind == "tag" else _ATTRIBUTES[part.key],
            part.operator,
            moment_of(int(part.value), part.key) if part.key in _TIMES and part.kind == "attribute" else part.value,
        )
        for part in _GRAMMAR.read_filter(body.filter)
    ]
    orders = [Order("attribute", _ATTRIBUTES[key], down) for _, key, down in _GRAMMAR.read_orders(body.order_by)]
    deleted = view_of(body.view_type)
    with suppress(PermissionDenied):  # who only reads sees the default one once somebody needed it
        default_id(scope)
    with scope.work(write=False) as ctx:
        found, further = service.find_experiments(
            ctx,
            conditions=conditions,
            orders=orders,
            deleted=deleted,
            limit=body.max_results,
            cursor=body.page_token or None,
        )
    token = {"next_page_token": further} if further else {}
    return {"experiments": [as_json(experiment) for experiment in found], **token}
