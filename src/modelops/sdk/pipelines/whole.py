"""What ready-made pipelines have in common: they are registered, scheduled and run, and tell what came of a run."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from modelops.contracts.errors import MLOpsError, NotFound
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.packing import Packed
from modelops.domains.pipelines.schedules.client import Schedules
from modelops.domains.pipelines.schemas import PipelineRun, PipelineVersion, RunState, StepState
from modelops.sdk.client import Client
from modelops.sdk.connected import Connected
from modelops.sdk.pipelines.templates import Template

R = TypeVar("R")


class WholePipeline(Connected, ABC, Generic[R]):
    """A pipeline of the platform that is made of a name and a config.

    Its runs are durable, can be watched with `mops pipelines`, and be begun with other parameters.

    Attributes:
        name: The pipeline's name.
        schedule: When it is to run by itself: `0 2 * * *`, `every 6h`. It is set when the pipeline is registered.
        zone: The time zone of the schedule.
    """

    failure: type[MLOpsError] = MLOpsError
    """What is raised of a run that did not succeed."""

    def __init__(
        self, name: str, schedule: str | None, backend: Client | str | None, project: str | None, zone: str
    ) -> None:
        super().__init__(backend, project=project)
        self.name, self.schedule, self.zone = name, schedule, zone

    @property
    @abstractmethod
    def template(self) -> Template:
        """Return the pipeline as it is registered."""

    @property
    def document(self) -> PipelineDocument:
        """Return the pipeline's document, without its code."""
        return self.template.document

    def packed(self) -> Packed:
        """Return it with its code, ready to be submitted, as `mops pipelines run FILE` does."""
        return self.template.packed()

    @abstractmethod
    def _result(self, run: PipelineRun) -> R:
        """Return what came of a run that succeeded."""

    def register(self) -> PipelineVersion:
        """Register the pipeline as it is now, and its schedule; unchanged, it is the version that it was."""
        version = self.client.pipelines.register_pipeline(self.template)
        if self.schedule is not None:
            self._set_schedule(self.schedule)
        return version

    def start(self, **parameters: Any) -> PipelineRun:
        """Register the pipeline, begin a run of it, and return that at once."""
        version = self.register()
        return self.client.pipelines.start_run(self.name, version=version.version, parameters=parameters)

    def run_sync(self, *, within_s: float | None = None, **parameters: Any) -> R:
        """Begin a run, wait for its end, and return what came of it.

        Raises:
            MLOpsError: the run failed or was cancelled; the error names the step and why. It is the class's `failure`.
            Unavailable: it has not ended in time; it goes on.
        """
        run = self.client.pipelines.wait_for_run(self.start(**parameters).id, within_s=within_s)
        return self.result(run.id)

    async def run(self, *, within_s: float | None = None, **parameters: Any) -> R:
        """Do as `run_sync` does, without blocking the event loop."""
        return await asyncio.to_thread(self.run_sync, within_s=within_s, **parameters)

    def result(self, run_id: str) -> R:
        """Return what came of a run that has ended.

        Raises:
            MLOpsError: it failed, was cancelled, or is under way. It is the class's `failure`.
        """
        pipelines = self.client.pipelines
        run = pipelines.get_run(run_id)
        if run.state is not RunState.SUCCEEDED:
            failing = (one for one in pipelines.all_steps(run.id) if one.state is StepState.FAILED)
            failed = next((one for one in failing if one.reason), None)
            why = f": {failed.key}: {failed.reason}" if failed is not None else f": {run.reason}" if run.reason else "."
            raise self.failure(
                f"The run '{run.id}' of '{run.pipeline}' is {run.state}{why}", hint=f"See mops pipelines logs {run.id}"
            )
        return self._result(run)

    def _set_schedule(self, when: str) -> None:
        schedules = Schedules(self.client.rest)
        try:
            known = schedules.get_schedule(self.name)
        except NotFound:
            schedules.create_schedule(self.name, when, pipeline=self.name, zone=self.zone)
        else:
            schedules.update_schedule(known.id, when=when, zone=self.zone)
