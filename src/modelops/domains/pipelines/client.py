"""The client of pipelines."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.rest import FIRST_PAUSE_S
from modelops.contracts.schemas import Json, Page
from modelops.domains.data.client import Data
from modelops.domains.pipelines.document import PipelineDocument, ValueType
from modelops.domains.pipelines.schedules.client import Schedules
from modelops.domains.pipelines.schemas import (
    CacheCleared,
    Decision,
    Pipeline,
    PipelineCreate,
    PipelineRun,
    PipelineVersion,
    RunCancel,
    RunCreate,
    RunRerun,
    StepLog,
    StepRun,
)
from modelops.domains.pipelines.triggers.client import Triggers

if TYPE_CHECKING:  # packing code is for those who write pipelines
    from modelops.domains.pipelines.files import Written


class Pipelines(Schedules, Triggers):
    """Pipelines, their runs and steps, schedules and triggers. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def register_pipeline(self, pipeline: "PipelineDocument | Written") -> PipelineVersion:
        """Keep a pipeline, and the code of its steps; a changed one is its next version.

        Args:
            pipeline: A function with `@pipeline`, what `load_pipeline` read, or a document whose code is stored already.
        """
        document = pipeline if isinstance(pipeline, PipelineDocument) else pipeline.packed().upload(Data(self._rest))
        return self._post(PipelineVersion, "/pipelines", PipelineCreate(document=document))

    def list_pipelines(self, **page: Any) -> Page[Pipeline]:
        """List the project's pipelines."""
        return self._list(Pipeline, "/pipelines", **page)

    def get_pipeline(self, pipeline: str) -> Pipeline:
        """Return a pipeline, by name or id."""
        return self._get(Pipeline, f"/pipelines/{quote(pipeline)}")

    def delete_pipeline(self, pipeline: str) -> None:
        """Remove a pipeline that has no runs."""
        self._delete(f"/pipelines/{quote(pipeline)}")

    def list_pipeline_versions(self, pipeline: str, **page: Any) -> Page[PipelineVersion]:
        """List a pipeline's versions, newest first."""
        return self._list(PipelineVersion, f"/pipelines/{quote(pipeline)}/versions", **page)

    def get_pipeline_version(self, pipeline: str, version: int | str = "latest") -> PipelineVersion:
        """Return a version of a pipeline, by number or `latest`."""
        return self._get(PipelineVersion, f"/pipelines/{quote(pipeline)}/versions/{version}")

    def start_run(
        self,
        pipeline: "str | Written",
        *,
        version: int | None = None,
        parameters: Mapping[str, Json] | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        use_cache: bool = True,
    ) -> PipelineRun:
        """Begin a run of a pipeline, by default of its newest version; one that is given itself is registered first."""
        if not isinstance(pipeline, str):
            registered = self.register_pipeline(pipeline)
            pipeline, version = registered.pipeline, version or registered.version
        body = RunCreate(
            version=version, parameters=dict(parameters or {}), name=name, tags=dict(tags or {}), use_cache=use_cache
        )
        return self._post(PipelineRun, f"/pipelines/{quote(pipeline)}/runs", body)

    def list_runs(self, **page: Any) -> Page[PipelineRun]:
        """List the project's runs of pipelines, newest first."""
        return self._list(PipelineRun, "/pipeline-runs", **page)

    def get_run(self, run: str) -> PipelineRun:
        """Return a run of a pipeline."""
        return self._get(PipelineRun, f"/pipeline-runs/{run}")

    def delete_run(self, run: str) -> None:
        """Remove a run that has ended, with what it made and nothing else needs."""
        self._delete(f"/pipeline-runs/{run}")

    def cancel_run(self, run: str, *, reason: str = "") -> PipelineRun:
        """Cancel a run; watch it until it is `canceled`."""
        return self._post(PipelineRun, f"/pipeline-runs/{run}/cancel", RunCancel(reason=reason))

    def pause_run(self, run: str) -> PipelineRun:
        """Pause a run: what is under way goes on, and nothing new begins."""
        return self._post(PipelineRun, f"/pipeline-runs/{run}/pause")

    def resume_run(self, run: str) -> PipelineRun:
        """Let a paused run go on."""
        return self._post(PipelineRun, f"/pipeline-runs/{run}/resume")

    def rerun_run(
        self,
        run: str,
        *,
        from_step: str | None = None,
        only_failed: bool = False,
        parameters: Mapping[str, Json] | None = None,
        use_cache: bool = True,
    ) -> PipelineRun:
        """Begin a run again: whole, from a step on, or what did not succeed."""
        body = RunRerun(
            from_step=from_step, only_failed=only_failed, parameters=dict(parameters or {}), use_cache=use_cache
        )
        return self._post(PipelineRun, f"/pipeline-runs/{run}/rerun", body)

    def list_steps(self, run: str, **page: Any) -> Page[StepRun]:
        """List a run's steps in the document's order."""
        return self._list(StepRun, f"/pipeline-runs/{run}/steps", **page)

    def all_steps(self, run: str) -> Iterator[StepRun]:
        """Walk every step of a run."""
        return self._all(StepRun, f"/pipeline-runs/{run}/steps", limit=1_000)

    def get_step(self, run: str, step: str) -> StepRun:
        """Return a step of a run, by key (`fit`, `fit[3]`) or id."""
        return self._get(StepRun, f"/pipeline-runs/{run}/steps/{quote(step)}")

    def get_step_log(
        self, run: str, step: str, *, offset: int = 0, limit: int = 65_536, attempt: int | None = None
    ) -> StepLog:
        """Return a piece of what a step wrote, from a character on; by default, in its newest attempt."""
        path = f"/pipeline-runs/{run}/steps/{quote(step)}/log"
        return self._get(StepLog, path, offset=offset, limit=limit, attempt=attempt)

    def follow_log(self, run: str, step: str) -> Iterator[str]:
        """Yield what a step writes until it has ended."""
        offset, pause = 0, FIRST_PAUSE_S
        while True:
            piece = self.get_step_log(run, step, offset=offset)
            if piece.text:
                pause = FIRST_PAUSE_S
                yield piece.text
            if piece.complete:
                return
            if piece.next_offset == offset:
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
            offset = piece.next_offset

    def read_output(self, run: str, step: str, output: str = "result") -> Json:
        """Return a JSON output of a step; of a model, its version's id.

        Raises:
            NotFound: the step has no such output (yet).
            InvalidInput: the output is a table or a file: download the artifact that it names.
        """
        found = self.get_step(run, step)
        ref = found.outputs.get(output)
        if ref is None:
            names = ", ".join(found.outputs) or "none"
            raise NotFound(
                f"The step '{step}' is {found.state}, and has no output '{output}'.", hint=f"It has: {names}."
            )
        if ref.type is ValueType.MODEL or ref.digest is None:
            return ref.model_version_id
        if ref.type is not ValueType.JSON:
            raise InvalidInput(
                f"The output '{output}' is {ref.type}, not JSON.", hint=f"mops data download-artifact {ref.digest} FILE"
            )
        value: Json = json.loads(self._rest.request("GET", f"/artifacts/{ref.digest}").content)
        return value

    def decide_step(self, run: str, step: str, *, approved: bool, comment: str = "") -> StepRun:
        """Approve or reject a step that waits for it."""
        body = Decision(approved=approved, comment=comment)
        return self._post(StepRun, f"/pipeline-runs/{run}/steps/{quote(step)}/decide", body)

    def clear_cache(self, pipeline: str | None = None) -> CacheCleared:
        """Forget kept results of steps: of one pipeline, or all of the project's."""
        params = {"pipeline": pipeline}
        return CacheCleared.model_validate_json(self._rest.request("DELETE", "/pipeline-cache", params=params).content)

    def wait_for_run(
        self, run: str, *, within_s: float | None = None, watch: Callable[[PipelineRun], None] | None = None
    ) -> PipelineRun:
        """Wait until a run has ended, however it ended, and return it.

        Args:
            run: Its id.
            within_s: How long at most; None means as long as it takes.
            watch: Called with the run as it is at each look.

        Raises:
            Unavailable: it has not ended in time.
        """
        return self._await_end(f"The run '{run}'", lambda: self.get_run(run), within_s, watch)
