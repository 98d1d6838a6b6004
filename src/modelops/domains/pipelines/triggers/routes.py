"""Routes of triggers, and the door for messages from outside."""

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.schemas import Page
from modelops.domains.pipelines.beginnings.schemas import Beginning
from modelops.domains.pipelines.triggers import hooks, service
from modelops.domains.pipelines.triggers.schemas import Trigger, TriggerCreate, TriggerCreated, TriggerUpdate
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.scope import LIMIT_KEY

router = Router("pipelines")


@router.post("/pipeline-triggers", status_code=201, response_model=TriggerCreated)
def create_trigger(ctx: Context, body: TriggerCreate) -> Response:
    """Begin a pipeline or a job because something happens; of a hook, path and secret are shown this once."""
    return _secret(service.create_trigger(ctx, body), 201)


@router.get("/pipeline-triggers")
def list_triggers(ctx: Context, page: Listing) -> Page[Trigger]:
    """List the project's triggers."""
    return service.list_triggers(ctx, page)


@router.get("/pipeline-triggers/{trigger}")
def get_trigger(ctx: Context, trigger: Ref) -> Trigger:
    """Return a trigger."""
    return service.get_trigger(ctx, trigger)


@router.patch("/pipeline-triggers/{trigger}")
def update_trigger(ctx: Context, trigger: Ref, body: TriggerUpdate) -> Trigger:
    """Change a trigger, or pause it or let it go on."""
    return service.update_trigger(ctx, trigger, body)


@router.delete("/pipeline-triggers/{trigger}", status_code=204)
def delete_trigger(ctx: Context, trigger: Ref) -> None:
    """Remove a trigger. What it began goes on."""
    return service.delete_trigger(ctx, trigger)


@router.post("/pipeline-triggers/{trigger}/secret", response_model=TriggerCreated)
def rotate_trigger_secret(ctx: Context, trigger: Ref) -> Response:
    """Give a hook another path and secret from now on; they are shown this once."""
    return _secret(service.rotate_trigger_secret(ctx, trigger), 200)


@router.get("/pipeline-triggers/{trigger}/history")
def list_trigger_history(ctx: Context, trigger: Ref, page: Listing) -> Page[Beginning]:
    """List what a trigger led to, newest first."""
    return service.list_trigger_history(ctx, trigger, page)


@router.post("/pipeline-hooks/{token}", status_code=202)
async def receive_hook(request: Request, token: Ref) -> Beginning:
    """Take a signed message from outside, a JSON object of at most 1 MiB, and begin what its trigger says."""
    limit = request.scope.get(LIMIT_KEY)
    if limit is not None:
        limit["bytes"] = min(limit["bytes"], hooks.MOST_BYTES)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return await run_in_threadpool(hooks.receive_hook, request.app.state.place, token, headers, await request.body())


def _secret(made: TriggerCreated, status: int) -> Response:
    """Answer with what is shown once; `no-store` keeps it out of the idempotency records, too."""
    headers = {"ETag": f'"{made.revision}"', "Cache-Control": "no-store"}
    return Response(made.model_dump_json(), status, headers, media_type="application/json")
