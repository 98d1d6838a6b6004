"""`PipelineOrchestrator`: pipelines that need one another, run in their order, in parallel where they do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json, Schema
from modelops.domains.pipelines.checking import did_you_mean
from modelops.domains.pipelines.files import Written
from modelops.domains.pipelines.rules import PipelineError
from modelops.domains.pipelines.schemas import PipelineRun, PipelineVersion, StepState
from modelops.sdk.client import Client
from modelops.sdk.delivery import steps
from modelops.sdk.pipelines import Template
from modelops.sdk.pipelines.whole import WholePipeline


class OrchestrationResult(Schema):
    """What came of a run: of each pipeline, the run of its own."""

    run_id: str
    runs: dict[str, str]


@dataclass(frozen=True)
class _Member:
    pipeline: "str | Written"
    needs: tuple[str, ...]
    parameters: dict[str, Json]


class PipelineOrchestrator(WholePipeline[OrchestrationResult]):
    """Runs pipelines in the order of what they need. It is a pipeline itself: a step a pipeline, durable, with a schedule.

    Args:
        name: The pipeline's.
        schedule: When it is to run by itself.
        at_once: How many pipelines run at a time, at most.
        backend: A client, a platform's address, or None for the one of the settings; opened at the first need.
        project: The project, where `backend` is no client.
        zone: The time zone of the schedule.
    """

    failure = PipelineError

    def __init__(
        self,
        name: str = "orchestrator",
        schedule: str | None = None,
        *,
        at_once: int = 4,
        backend: Client | str | None = None,
        project: str | None = None,
        zone: str = "UTC",
    ) -> None:
        super().__init__(name, schedule, backend, project, zone)
        self._at_once = at_once
        self._members: dict[str, _Member] = {}

    def add_pipeline(
        self,
        name: str,
        pipeline: "str | Written | None" = None,
        *,
        depends_on: Sequence[str] = (),
        parameters: Mapping[str, Json] | None = None,
    ) -> None:
        """Add a pipeline.

        Args:
            name: What it is called here, as a Python name.
            pipeline: One that is registered, by name (by default of the same); or one that is registered with this.
            depends_on: Those here that must succeed before, added already.
            parameters: Of its runs.

        Raises:
            InvalidInput: the name is taken or is none, or what it depends on is not there.
        """
        if not name.isidentifier() or not name.isascii():
            raise InvalidInput(f"'{name}' cannot name a step.", hint="Letters, digits and `_`, as in Python.")
        if name in self._members:
            raise InvalidInput(f"There is a pipeline '{name}' already.", hint="Give each a name of its own.")
        for need in depends_on:
            if need not in self._members:
                raise InvalidInput(
                    f"'{name}' depends on '{need}', which is not there.", hint=did_you_mean(need, self._members)
                )
        self._members[name] = _Member(pipeline or name, tuple(depends_on), dict(parameters or {}))

    @property
    def template(self) -> Template:
        """Return the pipeline as it is registered."""
        members = self._members
        if not members:
            raise InvalidInput(f"'{self.name}' has no pipelines.", hint="Add some with `add_pipeline`.")

        def write() -> None:
            written: dict[str, Any] = {}
            for name, member in members.items():
                needs = [written[need] for need in member.needs]
                each = steps.run_pipeline.options(name=name, after=needs)
                written[name] = each(_name_of(member.pipeline), member.parameters)

        told = f"Runs {', '.join(members)}."
        return Template(write, name=self.name, description=told, workers=min(self._at_once, len(members)))

    def register(self) -> PipelineVersion:
        """Register those pipelines that were given themselves, then this one and its schedule."""
        for member in self._members.values():
            if isinstance(member.pipeline, WholePipeline):
                member.pipeline.register()
            elif not isinstance(member.pipeline, str):
                self.client.pipelines.register_pipeline(member.pipeline)
        return super().register()

    def status(self, run_id: str | None = None) -> dict[str, StepState]:
        """Return the state of each pipeline in a run, by default the newest.

        Raises:
            NotFound: there is no such run.
        """
        pipelines = self.client.pipelines
        if run_id is None:
            newest = pipelines.list_runs(filter=f'pipeline = "{self.name}"', limit=1).items
            if not newest:
                return dict.fromkeys(self._members, StepState.WAITING)
            run_id = newest[0].id
        return {one.key: one.state for one in pipelines.all_steps(run_id)}

    def _result(self, run: PipelineRun) -> OrchestrationResult:
        runs = {}
        for name in self._members:
            told: Any = self.client.pipelines.read_output(run.id, name)
            runs[name] = str(told["run_id"])
        return OrchestrationResult(run_id=run.id, runs=runs)


def _name_of(pipeline: "str | Written") -> str:
    return pipeline if isinstance(pipeline, str) else pipeline.document.name
