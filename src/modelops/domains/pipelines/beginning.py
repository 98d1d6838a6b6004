"""Steps that may begin: made ready for a worker, taken from the cache, or carried out by the platform itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from modelops.contracts.errors import MLOpsError
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.caching import cache_key, find_cached
from modelops.domains.pipelines.document import JobWork, PipelineDocument, StepSpec
from modelops.domains.pipelines.ending import fail, succeed
from modelops.domains.pipelines.inputs import Inputs, each_ref, resolve
from modelops.domains.pipelines.planning import Beginning
from modelops.domains.pipelines.rows import hold
from modelops.domains.pipelines.rules import kind_of
from modelops.domains.pipelines.schemas import RunState, StepState
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.domains.training import service as training
from modelops.domains.training.schemas import JobCreate, Resources
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of

_AT_ONCE = 500
_MOST_TOLD_BYTES = 256 * 1024
"""What jobs and notifications take lies in the database."""


@dataclass(frozen=True)
class Ready:
    """Steps that may begin, and JSON values by digest that were read for them before."""

    steps: Sequence[Beginning]
    read: Mapping[str, Json] = field(default_factory=dict)


def digests_to_read(
    ctx: Context, run: PipelineRunRow, document: PipelineDocument, steps: Sequence[Beginning]
) -> set[str]:
    """Return the JSON values in the store that beginning these steps needs: the inputs of what the platform does itself,
    and the items that cached members take."""
    chosen = [
        item for item in steps if kind_of(document.steps[item.step]) != "function" or document.steps[item.step].cache
    ]
    found: set[str] = set()
    for item, inputs in zip(chosen, _resolved(ctx, run, document, chosen), strict=True):
        found |= {digest for digest, _ in inputs.items.values()}
        if kind_of(document.steps[item.step]) in ("job", "notify"):
            for refs in inputs.references.values():
                found |= {ref.digest for ref in each_ref(refs) if ref.digest is not None and ref.type == "json"}
    return found


def begin_steps(ctx: Context, run: PipelineRunRow, document: PipelineDocument, ready: Ready) -> None:
    """Begin steps, each once: those that are still waiting."""
    raw = raw_of(ctx.session)
    now = raw.moment(ctx.clock.now())
    if run.state == RunState.CANCELING:
        raw.executemany(
            "UPDATE pipeline_steps SET state = 'canceled', reason = 'The run was cancelled.', ended_at = ?"
            " WHERE run_id = ? AND key = ? AND state = 'waiting'",
            [(now, run.id, item.key) for item in ready.steps],
        )
        return
    by_kind: dict[str, list[Beginning]] = {}
    for item in ready.steps:
        spec = document.steps[item.step]
        kind = kind_of(spec)
        by_kind.setdefault("cached" if kind == "function" and spec.cache else kind, []).append(item)
    plain = by_kind.pop("function", [])
    if plain:
        raw.executemany(
            "UPDATE pipeline_steps SET state = 'ready' WHERE run_id = ? AND key = ? AND state = 'waiting'",
            [(run.id, item.key) for item in plain],
        )
    cached = by_kind.pop("cached", [])
    if cached:
        _begin_cached(ctx, run, document, cached, ready.read)
    for items in by_kind.values():
        for start in range(0, len(items), _AT_ONCE):
            _begin_own(ctx, run, document, items[start : start + _AT_ONCE], ready.read)


def _begin_cached(
    ctx: Context,
    run: PipelineRunRow,
    document: PipelineDocument,
    steps: Sequence[Beginning],
    read: Mapping[str, Json],
) -> None:
    keys = {}
    for item, inputs in zip(steps, _resolved(ctx, run, document, steps), strict=True):
        items = _items(inputs, read)
        if document.code is not None and items is not None:
            keys[item.key] = cache_key(document.code, document.steps[item.step], inputs, items)
    asked = [key for key in keys.values() if key is not None]
    hits = find_cached(ctx, list(dict.fromkeys(asked))) if run.use_cache and asked else {}
    raw = raw_of(ctx.session)
    now = raw.moment(ctx.clock.now())
    ready, taken, held = [], [], []
    for item in steps:
        key = keys.get(item.key)
        hit = hits.get(key or "")
        if hit is None:
            ready.append((key, run.id, item.key))
            continue
        taken.append((key, json.dumps(hit.outputs), hit.run_id, now, now, run.id, item.key))
        held += [ref["digest"] for ref in hit.outputs.values() if ref["digest"]]
    raw.executemany(
        "UPDATE pipeline_steps SET state = 'ready', cache_key = ? WHERE run_id = ? AND key = ? AND state = 'waiting'",
        ready,
    )
    raw.executemany(
        "UPDATE pipeline_steps SET state = 'cached', cache_key = ?, outputs = ?, cached_from = ?, started_at = ?, ended_at = ?"
        " WHERE run_id = ? AND key = ? AND state = 'waiting'",
        taken,
    )
    hold(ctx, run.id, run.project_id, held)


def _begin_own(
    ctx: Context,
    run: PipelineRunRow,
    document: PipelineDocument,
    steps: Sequence[Beginning],
    read: Mapping[str, Json],
) -> None:
    """Begin what the platform does itself: jobs, approvals and notifications."""
    query = select(PipelineStepRow).where(
        PipelineStepRow.run_id == run.id,
        PipelineStepRow.key.in_([item.key for item in steps]),
        PipelineStepRow.state == StepState.WAITING,
    )
    rows = {row.key: row for row in ctx.session.scalars(query.execution_options(populate_existing=True))}
    for item, inputs in zip(steps, _resolved(ctx, run, document, steps), strict=True):
        row, spec = rows.get(item.key), document.steps[item.step]
        if row is None:
            continue  # it was begun before
        row.started_at, row.attempt = ctx.clock.now(), row.attempt + 1
        if spec.approval is not None:
            row.state = StepState.AWAITING
            ctx.emit(
                "modelops.pipelines.approval_asked",
                run.id,
                step=row.key,
                pipeline=run.pipeline,
                name=run.name,
                message=spec.approval.message,
            )
            continue
        values = _values(inputs, read)
        if values is None:
            fail(ctx, run, spec, row, "An input of it cannot be read.", hopeless=True)
        elif len(json.dumps(values)) > _MOST_TOLD_BYTES:
            fail(ctx, run, spec, row, "Its inputs have 256 KiB at most: it takes facts, no data.", hopeless=True)
        elif spec.notify is not None:
            facts = {"step": row.key, "pipeline": run.pipeline, "name": run.name, "data": values}
            ctx.emit("modelops.pipelines.notified", run.id, message=spec.notify.message, **facts)
            succeed(ctx, row, {})
        elif spec.job is not None:
            submit(ctx, run, spec, row, values)


def submit(ctx: Context, run: PipelineRunRow, spec: StepSpec, row: PipelineStepRow, values: Mapping[str, Json]) -> None:
    """Submit the training job of a step; what is wrong with it fails the step."""
    work = spec.job
    if work is None:
        return
    try:
        with ctx.session.begin_nested():
            row.job_id = training.submit_job(ctx, _job(run, row, work, values)).id
    except (MLOpsError, ValidationError) as wrong:
        said = wrong.detail if isinstance(wrong, MLOpsError) else "; ".join(each["msg"] for each in wrong.errors())
        row.job_id = None
        fail(ctx, run, spec, row, f"Its job cannot be submitted: {said}", hopeless=True)
        return
    row.state = StepState.RUNNING


def _job(run: PipelineRunRow, row: PipelineStepRow, work: JobWork, values: Mapping[str, Json]) -> JobCreate:
    over: Any = values.get("parameters")
    dataset = values.get("dataset", work.dataset)
    resources = (work.resources or Resources()).model_copy(update={"timeout_s": work.timeout_s})
    others = {name: value for name, value in values.items() if name not in ("parameters", "dataset")}
    return JobCreate.model_validate(
        {
            "recipe": work.recipe,
            "dataset": dataset,
            "parameters": {**work.parameters, **(over if isinstance(over, dict) else {}), **others},
            "name": f"{run.pipeline} {row.step}",
            "experiment": run.pipeline,
            "resources": resources,
            "queue": work.queue,
            "pool": work.pool,
            "priority": work.priority,
            "tags": {"pipeline.run": run.id, "pipeline.step": row.key},
        }
    )


def _resolved(
    ctx: Context, run: PipelineRunRow, document: PipelineDocument, steps: Sequence[Beginning]
) -> list[Inputs]:
    return resolve(ctx, run, document, [(item.step, item.index) for item in steps])


def _items(inputs: Inputs, read: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the items that inputs take from lists; None where one was not read."""
    found: dict[str, Json] = {}
    for name, (digest, index) in inputs.items.items():
        whole = read.get(digest)
        if not isinstance(whole, list) or index >= len(whole):
            return None
        found[name] = whole[index]
    return found


def _values(inputs: Inputs, read: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return every input as a JSON value: of a model its version's id, of other data the digest."""
    items = _items(inputs, read)
    if items is None:
        return None
    values = {**inputs.values, **items}
    for name, refs in inputs.references.items():
        told = []
        for ref in each_ref(refs):
            if ref.type == "json" and ref.digest not in read:
                return None
            told.append(read[ref.digest] if ref.type == "json" and ref.digest else ref.model_version_id or ref.digest)
        values[name] = told if isinstance(refs, list) else told[0]
    return values
