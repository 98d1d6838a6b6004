"""Workers tell how attempts ended."""

from modelops.contracts.errors import NotFound
from modelops.domains.data import service as data
from modelops.domains.data.schemas import Artifact
from modelops.domains.models import service as models
from modelops.domains.pipelines.caching import keep
from modelops.domains.pipelines.claims import worked_run
from modelops.domains.pipelines.document import PipelineDocument, StepSpec
from modelops.domains.pipelines.ending import fail, succeed
from modelops.domains.pipelines.inputs import deciding
from modelops.domains.pipelines.logs import write_logs
from modelops.domains.pipelines.rows import document_of, hold
from modelops.domains.pipelines.rules import MOST_DECIDING_BYTES, problem_of
from modelops.domains.pipelines.schemas import StepOrders, StepReport, StepReports, StepState
from modelops.domains.pipelines.tables import PipelineStepRow
from modelops.domains.pipelines.waking import ends_of, wake, work_of
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope


def report_steps(scope: Scope, run: str, body: StepReports) -> StepOrders:
    """Write how attempts ended. What is told twice changes nothing; attempts that are another worker's by now are passed
    over, and named in the answer."""
    with scope.place.work(scope.actor) as ctx:
        row = worked_run(ctx, run)
        document = document_of(ctx, row.version_id)
        write_logs(ctx, row, body.wrote)
        wanted = [report.step for report in body.reports]
        query = ctx.query(PipelineStepRow).where(PipelineStepRow.run_id == row.id, PipelineStepRow.id.in_(wanted))
        query = query.order_by(PipelineStepRow.id).with_for_update().execution_options(populate_existing=True)
        steps = {step.id: step for step in ctx.session.scalars(query)}
        artifacts = _artifacts(ctx, body)
        held: list[str] = []
        stale = []
        for report in body.reports:
            step = steps.get(report.step)
            if step is None or (step.attempt, step.worker) != (report.attempt, body.worker):
                stale.append(report.step)
                continue
            if step.state != StepState.RUNNING:
                continue  # told before
            spec = document.steps[step.step]
            step.cpu_seconds, step.peak_memory_bytes = report.cpu_seconds, report.peak_memory_bytes
            problem = report.failure or _problem(ctx, document, spec, step.step, report, artifacts)
            if problem is not None:
                fail(ctx, row, spec, step, problem, hopeless=report.hopeless or report.failure is None)
                continue
            succeed(ctx, step, report.outputs)
            held += [ref.digest for ref in report.outputs.values() if ref.digest is not None]
            if step.cache_key is not None:
                keep(ctx, row, step)
        hold(ctx, row.id, row.project_id, held)
        wake(ctx, ends_of(row.id), work_of(row.id))
        return StepOrders(stop=stale)


def _artifacts(ctx: Context, body: StepReports) -> dict[str, Artifact]:
    """Return the artifacts that reports name, those that are there, held until this is committed."""
    named = [ref.digest for report in body.reports for ref in report.outputs.values() if ref.digest is not None]
    try:
        return data.hold_artifacts(ctx, named)
    except NotFound:
        found: dict[str, Artifact] = {}
        for digest in dict.fromkeys(named):
            try:
                found |= data.hold_artifacts(ctx, [digest])
            except NotFound:
                continue
        return found


def _problem(
    ctx: Context,
    document: PipelineDocument,
    spec: StepSpec,
    step: str,
    report: StepReport,
    artifacts: dict[str, Artifact],
) -> str | None:
    """Return what is wrong with the outputs that an attempt gave, or None."""
    problem = problem_of(report.outputs, spec.outputs)
    if problem is not None:
        return problem
    for name, ref in report.outputs.items():
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
