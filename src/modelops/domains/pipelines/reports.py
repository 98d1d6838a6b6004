"""Workers tell how attempts ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelops.contracts.errors import NotFound
from modelops.contracts.ports import BlobStore
from modelops.domains.data import service as data
from modelops.domains.data.schemas import Artifact
from modelops.domains.models import service as models
from modelops.domains.pipelines.caching import keep
from modelops.domains.pipelines.claims import worked_run
from modelops.domains.pipelines.document import PipelineDocument, StepSpec
from modelops.domains.pipelines.ending import fail, give_back, succeed
from modelops.domains.pipelines.inputs import deciding
from modelops.domains.pipelines.logs import write_logs
from modelops.domains.pipelines.rows import document_of, hold
from modelops.domains.pipelines.rules import FREE_KILLS, MOST_DECIDING_BYTES, problem_of
from modelops.domains.pipelines.schemas import StepOrders, StepReport, StepReports, StepState, ValueRef
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.domains.pipelines.taking import handed, take_more
from modelops.domains.pipelines.values import JSON_TYPE, put_small, remember_small, small_refs
from modelops.domains.pipelines.waking import ends_of, wake, work_of
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope


@dataclass
class _Small:
    """The small values that came with reports: where each lies once it is stored, by its text, and those that are stored."""

    refs: dict[str, ValueRef]
    stored: set[str] = field(default_factory=set)

    @property
    def texts(self) -> dict[str, str]:
        """Return the values by digest."""
        return {ref.digest: text for text, ref in self.refs.items() if ref.digest is not None}

    def outputs_of(self, report: StepReport) -> dict[str, ValueRef]:
        """Return all that a report gives."""
        return report.outputs | {name: self.refs[text] for name, text in report.contents.items()}

    def missing(self, held: Mapping[str, Artifact]) -> dict[str, str]:
        """Return those that are to be stored: what the project holds is in the store already."""
        return {digest: text for digest, text in self.texts.items() if digest not in held and digest not in self.stored}


def report_steps(scope: Scope, run: str, body: StepReports) -> StepOrders:
    """Write how attempts ended, and give the worker more to do if it asks for it. What is told twice changes nothing; attempts
    that are another worker's by now are passed over, and named in the answer."""
    small = _Small(small_refs(text for report in body.reports for text in report.contents.values()))
    store: BlobStore = scope.place.ports[BlobStore]
    if small.refs:
        with scope.place.work(scope.actor, write=False) as ctx:
            worked_run(ctx, run)
            missing = small.missing(data.find_artifacts(ctx, small.texts))
    else:
        missing = {}
    while True:
        put_small(store, missing)  # no transaction is open
        small.stored |= set(missing)
        with scope.place.work(scope.actor) as ctx:
            artifacts = _artifacts(ctx, body, small)
            missing = small.missing(artifacts)
            if not missing:  # else somebody deleted them since
                row = worked_run(ctx, run)
                stop = _write(ctx, row, body, small, artifacts)
                taken = take_more(ctx, row, body.worker, body.most)
                break
    remember_small(small.texts)
    return StepOrders(stop=stop, work=handed(scope, run, taken))


def _write(
    ctx: Context, row: PipelineRunRow, body: StepReports, small: _Small, artifacts: Mapping[str, Artifact]
) -> list[str]:
    """Write how attempts ended, and return those that are another worker's by now."""
    document = document_of(ctx, row.version_id)
    write_logs(ctx, row, body.wrote)
    wanted = [report.step for report in body.reports]
    query = ctx.query(PipelineStepRow).where(PipelineStepRow.run_id == row.id, PipelineStepRow.id.in_(wanted))
    query = query.order_by(PipelineStepRow.id).with_for_update().execution_options(populate_existing=True)
    steps = {step.id: step for step in ctx.session.scalars(query)}
    held: list[str] = []
    stale = []
    for report in body.reports:
        step = steps.get(report.step)
        if step is None or (step.attempt, step.worker) != (report.attempt, body.worker):
            stale.append(report.step)
            continue
        if step.state != StepState.RUNNING:
            continue  # told before
        spec, outputs = document.steps[step.step], small.outputs_of(report)
        step.cpu_seconds, step.peak_memory_bytes = report.cpu_seconds, report.peak_memory_bytes
        if report.lost and step.lost < FREE_KILLS:
            give_back(ctx, row, step, report.failure)
            continue
        problem = report.failure or _problem(ctx, document, spec, step.step, outputs, artifacts)
        if problem is not None:
            fail(ctx, row, spec, step, problem, hopeless=report.hopeless or report.failure is None)
            continue
        succeed(ctx, step, outputs)
        held += [ref.digest for ref in outputs.values() if ref.digest is not None]
        if step.cache_key is not None:
            keep(ctx, row, step)
    hold(ctx, row.id, row.project_id, held)
    wake(ctx, ends_of(row.id), work_of(row.id))
    return stale


def _artifacts(ctx: Context, body: StepReports, small: _Small) -> dict[str, Artifact]:
    """Return the artifacts that reports name, those that are there, held until this is committed; what was stored of small
    values becomes artifacts of the project."""
    named = [ref.digest for report in body.reports for ref in report.outputs.values() if ref.digest is not None]
    found = data.find_artifacts(ctx, [*named, *small.texts], lock=True)
    sizes = {ref.digest: ref.size for ref in small.refs.values() if ref.digest in small.stored - set(found)}
    return found | data.add_artifacts(ctx, {digest: size for digest, size in sizes.items() if digest}, JSON_TYPE)


def _problem(
    ctx: Context,
    document: PipelineDocument,
    spec: StepSpec,
    step: str,
    outputs: Mapping[str, ValueRef],
    artifacts: Mapping[str, Artifact],
) -> str | None:
    """Return what is wrong with the outputs that an attempt gave, or None."""
    problem = problem_of(outputs, spec.outputs)
    if problem is not None:
        return problem
    for name, ref in outputs.items():
        if ref.digest is not None and ref.digest not in artifacts:
            return f"Its output '{name}' lies nowhere: the project holds no artifact '{ref.digest}'."
        large = ref.digest is not None and artifacts[ref.digest].size > MOST_DECIDING_BYTES
        if large and name in deciding(document).get(step, ()):
            return f"Its output '{name}' decides what comes next, and may have 16 MiB at most."
        if ref.model_version_id is not None:
            try:
                models.get_version_by_id(ctx, ref.model_version_id)
            except NotFound:
                return f"Its output '{name}' names a model version that is not there: '{ref.model_version_id}'."
    return None
