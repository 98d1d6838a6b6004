"""The protocol's paths for traces, and OTLP's."""

from typing import Annotated, Any

import msgspec
from anyio import sleep
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from modelops.contracts.errors import NotFound
from modelops.domains.mlflow.protocol import NotSupported, api, number
from modelops.domains.mlflow.traces import assessing, managing, reading, recording, searching
from modelops.domains.mlflow.traces.forms import Assessment, Location, TraceInfo
from modelops.domains.mlflow.traces.places import make_default
from modelops.kernel.context import Context
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

_PAUSES_S = (0.2, 0.8, 2.0)
_SPANS_WITHIN_S = (0.02, 0.1, 0.3)
_AN_INT64 = msgspec.Meta(ge=-(2**62), le=2**62)
_TRACES = "3.0/mlflow/traces"
_OLD = "2.0/mlflow/traces"


class Told(msgspec.Struct):
    """A trace without its spans."""

    trace_info: TraceInfo


class StartTrace(msgspec.Struct):
    """Body of `start_trace`."""

    trace: Told


class GetTrace(msgspec.Struct):
    """Query of `get_trace`."""

    trace_id: str
    allow_partial: bool = False


class GetTraces(msgspec.Struct):
    """Query or body of the two ways to get several."""

    trace_ids: list[str] = []
    experiment_ids: list[str] | None = None


class SearchTraces(msgspec.Struct):
    """Body of `search_traces`."""

    locations: list[Location] = []
    filter: str | None = None
    max_results: int = 100
    order_by: list[str] = []
    page_token: str | None = None


class Tag(msgspec.Struct):
    """A tag to put or to take off."""

    key: str
    value: str = ""


class DeleteTraces(msgspec.Struct):
    """Body of `delete_traces`."""

    experiment_id: str
    max_timestamp_millis: Annotated[int, _AN_INT64] | None = None
    max_traces: Annotated[int, _AN_INT64] | None = None
    request_ids: list[str] = []


class LinkToRun(msgspec.Struct):
    """Body of `link_traces_to_run`."""

    trace_ids: list[str]
    run_id: str


class Prompt(msgspec.Struct):
    """A version of a prompt."""

    name: str
    version: str


class LinkPrompts(msgspec.Struct):
    """Body of `link_prompts_to_trace`."""

    trace_id: str
    prompt_versions: list[Prompt]


class CreateAssessment(msgspec.Struct):
    """Body of `create_assessment`."""

    assessment: Assessment


class UpdateAssessment(msgspec.Struct):
    """Body of `update_assessment`; the mask is protobuf's, `rationale,metadata`, in either case of letters."""

    assessment: Assessment
    update_mask: str


class Correlate(msgspec.Struct):
    """Body of `calculate_filter_correlation`."""

    experiment_ids: list[str]
    filter_string1: str
    filter_string2: str
    base_filter: str | None = None


class GetFile(msgspec.Struct):
    """Query of `get_trace_artifact`."""

    request_id: str
    path: str | None = None


@api("POST", _TRACES)
async def start_trace(scope: Scope, body: StartTrace) -> Answer:
    """Keep what a client tells of a trace. Whatever its name says, it is sent when the trace has ended.

    Clients send its spans at the same moment by another thread, and keep them a second time, as an artifact, unless the answer
    says that they are here: so it waits a little for spans that were counted.
    """
    told = body.trace.trace_info
    info = await run_in_threadpool(_record_trace, scope, told)
    for pause in _SPANS_WITHIN_S if reading.SIZES in told.trace_metadata else ():
        if recording.SPANS_LOCATION in info["tags"]:
            break
        await sleep(pause)
        info = await run_in_threadpool(_read_info, scope, info["trace_id"])
    return {"trace": {"trace_info": info}}


def _record_trace(scope: Scope, told: TraceInfo) -> dict[str, Any]:
    if told.trace_location and told.trace_location.mlflow_experiment:
        make_default(scope, told.trace_location.mlflow_experiment.experiment_id)
    with scope.work() as ctx:
        return _info(ctx, recording.record_trace(ctx, told))


def _read_info(scope: Scope, trace_id: str) -> dict[str, Any]:
    with scope.work(write=False) as ctx:
        return _info(ctx, trace_id)


@api("GET", f"{_TRACES}/get")
async def get_trace(scope: Scope, query: GetTrace) -> Answer:
    """Return a trace with its spans; waits a moment for those that its client has still under way."""
    for pause in (*_PAUSES_S, None):
        found = await run_in_threadpool(_find_trace, scope, query)
        if found or pause is None:
            break
        await sleep(pause)
    if not found:
        raise NotFound(f"Trace with ID {query.trace_id} is not fully exported yet, please try again later.")
    return {"trace": found[0]}


def _find_trace(scope: Scope, query: GetTrace) -> list[dict[str, Any]]:
    with scope.work(write=False) as ctx:
        return reading.get_traces(ctx, [reading.get_row(ctx, query.trace_id)], partial=query.allow_partial)


@api("GET", f"{_TRACES}/batchGet")
def batch_get_traces(ctx: Context, query: GetTraces) -> Answer:
    """Return several traces with their spans, without those of which spans are missing."""
    rows = reading.get_rows(ctx, query.trace_ids, query.experiment_ids)
    return {"traces": reading.get_traces(ctx, rows, partial=False)}


@api("POST", f"{_TRACES}/batchGetInfos", reads=True)
def batch_get_trace_infos(ctx: Context, body: GetTraces) -> Answer:
    """Return what is told of several traces."""
    return {"trace_infos": reading.get_infos(ctx, reading.get_rows(ctx, body.trace_ids, body.experiment_ids))}


@api("POST", f"{_TRACES}/search", reads=True)
def search_traces(ctx: Context, body: SearchTraces) -> Answer:
    """Search the traces of experiments."""
    ctx.require("traces.read")
    places = [place.mlflow_experiment.experiment_id for place in body.locations if place.mlflow_experiment]
    rows, token = searching.search(ctx, places, body.filter, body.order_by, body.max_results, body.page_token)
    answer: dict[str, Any] = {"traces": reading.get_infos(ctx, rows)}
    return answer | ({"next_page_token": token} if token else {})


@api("POST", f"{_TRACES}/calculate-filter-correlation", reads=True)
def calculate_filter_correlation(ctx: Context, body: Correlate) -> Answer:
    """Tell how two filters go together."""
    found = managing.correlate(ctx, body.experiment_ids, body.filter_string1, body.filter_string2, body.base_filter)
    return {
        "npmi": number(found.npmi),
        "npmi_smoothed": number(found.smoothed),
        "filter1_count": found.first,
        "filter2_count": found.second,
        "joint_count": found.both,
        "total_count": found.all,
    }


@api("POST", f"{_TRACES}/metrics", reads=True)
async def query_trace_metrics(scope: Scope) -> Answer:
    """Refuse the aggregates that MLflow's own pages draw."""
    raise NotSupported("Aggregates of traces are not offered here: search them, and aggregate what is found.")


@api("POST", f"{_TRACES}/delete-traces", f"{_OLD}/delete-traces")
def delete_traces(scope: Scope, body: DeleteTraces) -> Answer:
    """Delete an experiment's traces."""
    make_default(scope, body.experiment_id)
    with scope.work() as ctx:
        gone = managing.delete_traces(
            ctx,
            body.experiment_id,
            until_ms=body.max_timestamp_millis,
            most=body.max_traces,
            trace_ids=body.request_ids,
        )
    return {"traces_deleted": gone}


@api("POST", f"{_TRACES}/link-to-run", f"{_OLD}/link-to-run")
def link_traces_to_run(ctx: Context, body: LinkToRun) -> Answer:
    """Tie traces to a run."""
    managing.link_to_run(ctx, body.trace_ids, body.run_id)


@api("POST", f"{_TRACES}/link-prompts", f"{_OLD}/link-prompts")
def link_prompts_to_trace(ctx: Context, body: LinkPrompts) -> Answer:
    """Note which versions of prompts a trace used."""
    managing.link_prompts(ctx, body.trace_id, [(one.name, one.version) for one in body.prompt_versions])


@api("GET", f"{_TRACES}/{{trace_id}}")
def get_trace_info(ctx: Context, trace_id: str) -> Answer:
    """Return what is told of a trace."""
    return {"trace": {"trace_info": _info(ctx, trace_id)}}


@api("PATCH", f"{_TRACES}/{{trace_id}}/tags", f"{_OLD}/{{trace_id}}/tags")
def set_trace_tag(ctx: Context, body: Tag, trace_id: str) -> Answer:
    """Put a tag on a trace."""
    managing.set_tag(ctx, trace_id, body.key, body.value)


@api("DELETE", f"{_TRACES}/{{trace_id}}/tags", f"{_OLD}/{{trace_id}}/tags")
def delete_trace_tag(ctx: Context, body: Tag, trace_id: str) -> Answer:
    """Take a tag off a trace."""
    managing.delete_tag(ctx, trace_id, body.key)


@api("POST", f"{_TRACES}/{{trace_id}}/assessments")
def create_assessment(ctx: Context, body: CreateAssessment, trace_id: str) -> Answer:
    """Add an assessment to a trace."""
    return {"assessment": assessing.create_assessment(ctx, trace_id, body.assessment)}


@api("GET", f"{_TRACES}/{{trace_id}}/assessments/{{assessment_id}}")
def get_assessment(ctx: Context, trace_id: str, assessment_id: str) -> Answer:
    """Return an assessment."""
    return {"assessment": assessing.get_assessment(ctx, trace_id, assessment_id)}


@api("PATCH", f"{_TRACES}/{{trace_id}}/assessments/{{assessment_id}}")
def update_assessment(ctx: Context, body: UpdateAssessment, trace_id: str, assessment_id: str) -> Answer:
    """Change fields of an assessment."""
    fields = [_snake(field.strip()) for field in body.update_mask.split(",") if field.strip()]
    return {"assessment": assessing.update_assessment(ctx, trace_id, assessment_id, body.assessment, fields)}


@api("DELETE", f"{_TRACES}/{{trace_id}}/assessments/{{assessment_id}}")
def delete_assessment(ctx: Context, trace_id: str, assessment_id: str) -> Answer:
    """Delete an assessment."""
    assessing.delete_assessment(ctx, trace_id, assessment_id)


@api("GET", "2.0/mlflow/get-trace-artifact", "3.0/mlflow/get-trace-artifact")
def get_trace_artifact(ctx: Context, query: GetFile) -> Answer:
    """Return a trace's spans as the file that MLflow keeps of them."""
    if query.path is not None:
        raise NotFound(f"The trace '{query.request_id}' has no attachment '{query.path}' here.")
    return Response(
        reading.get_file(ctx, query.request_id),
        media_type="application/octet-stream",
        headers={"Content-Disposition": "attachment; filename=traces.json"},
    )


def _info(ctx: Context, trace_id: str) -> dict[str, Any]:
    return reading.get_infos(ctx, [reading.get_row(ctx, trace_id)])[0]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
