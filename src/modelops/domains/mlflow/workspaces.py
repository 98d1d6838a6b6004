"""MLflow's workspaces: the platform's projects, read by their names."""

from typing import Any

from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import Project
from modelops.domains.mlflow.protocol import NotSupported, api
from modelops.kernel.context import Context
from modelops.kernel.door import Answer
from modelops.kernel.listing import PageQuery
from modelops.kernel.scope import Scope

_ROOT = "3.0/mlflow/workspaces"
_AT_ONCE = 1_000


@api("GET", _ROOT)
def list_workspaces(ctx: Context) -> Answer:
    """List the projects that the caller belongs to; MLflow asks for all at once."""
    found: list[Project] = []
    cursor = None
    while True:
        page = identity.list_projects(ctx, PageQuery(limit=_AT_ONCE, cursor=cursor))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return {"workspaces": [_view(project) for project in found]}


@api("GET", f"{_ROOT}/{{name}}")
def get_workspace(ctx: Context, name: str) -> Answer:
    """Return a project that the caller belongs to."""
    return {"workspace": _view(identity.get_project(ctx, name))}


async def refuse_change(scope: Scope, name: str = "") -> Answer:
    """Refuse to make, change or delete one."""
    raise NotSupported(
        "A workspace is a project of the platform, which is made and changed there.",
        hint="`mops identity create-project NAME`.",
    )


for _method in ("POST", "PATCH", "DELETE"):
    api(_method, _ROOT, f"{_ROOT}/{{name}}", reads=True)(refuse_change)


def _view(project: Project) -> dict[str, Any]:
    return {"name": project.name, "description": project.description}
