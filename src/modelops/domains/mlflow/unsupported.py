"""What MLflow's server offers and this platform does not: refused by name, so that nobody hunts for a misspelt path."""

from modelops.domains.mlflow.protocol import NotSupported, api, door
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

_ROOMS = {
    "gateway": "MLflow's AI gateway",
    "issues": "MLflow's issues",
    "label-schemas": "MLflow's label schemas",
    "datasets": "MLflow's evaluation datasets",
    "scorers": "MLflow's registered scorers",
    "prompt-optimization": "MLflow's prompt optimisation",
    "review-queues": "MLflow's review queues",
    "jobs": "MLflow's server-side jobs",
    "webhooks": "MLflow's webhooks (the platform has its own: `mops webhooks`)",
    "artifacts/presigned-download-url": "MLflow's presigned URLs",
    "artifacts/presigned-upload-url": "MLflow's presigned URLs",
    "runs/create-promptlab-run": "MLflow's prompt laboratory",
    "gateway-proxy": "MLflow's AI gateway",
    "get-online-trace-details": "MLflow on Databricks",
    "unified-traces": "MLflow on Databricks",
    "demo": "MLflow's own pages",
    "genai": "MLflow's own pages",
    "scorer": "MLflow's own pages",
    "ui-telemetry": "MLflow's own pages",
}


def _refuse_all(room: str, what: str) -> None:
    async def refuse_room(scope: Scope, rest: str = "") -> Answer:
        raise NotSupported(f"This belongs to {what}, which this platform does not offer.")

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        for root in (f"3.0/mlflow/{room}", f"2.0/mlflow/{room}"):
            api(method, root, f"{root}/{{rest:path}}", reads=True)(refuse_room)


for _room, _what in _ROOMS.items():
    _refuse_all(_room, _what)


@door.route("POST", "/graphql", reads=True)
@door.route("GET", "/graphql")
async def query_graph(scope: Scope) -> Answer:
    """Refuse MLflow's GraphQL, which only its own pages use."""
    raise NotSupported("MLflow's GraphQL is not spoken here: it serves MLflow's own pages alone.")
