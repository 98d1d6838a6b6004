"""The client of training."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelops.contracts.rest import FIRST_PAUSE_S, Group
from modelops.contracts.schemas import Json, Page
from modelops.domains.training.schemas import (
    ArtifactRole,
    CostEstimate,
    CostRequest,
    Job,
    JobArtifact,
    JobArtifactCreate,
    JobAttempt,
    JobCancel,
    JobCreate,
    JobLog,
    JobReport,
    JobUsage,
    JobWhy,
    ProgressReport,
    RecipeInfo,
    Resources,
    Retry,
    TrainingRequirements,
)


class Training(Group):
    """Recipes and jobs. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def list_recipes(self) -> Page[RecipeInfo]:
        """List the installed recipes with the parameters that they take."""
        return self._list(RecipeInfo, "/recipes")

    def submit_job(
        self,
        recipe: str,
        dataset: str | None = None,
        *,
        parameters: Mapping[str, Json] | None = None,
        inputs: Mapping[str, str] | None = None,
        resources: Resources | None = None,
        retry: Retry | None = None,
        environment: str | None = None,
        keep_checkpoints: int = 3,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
        queue: str | None = None,
        pool: str | None = None,
        priority: str | None = None,
    ) -> Job:
        """Queue a job that runs a recipe on a dataset version (`name`, `name:3`).

        Args:
            recipe: A recipe: `list_recipes` names them.
            dataset: The data, for recipes that take some: short for the input `dataset`.
            parameters: The recipe's parameters.
            inputs: Further inputs by name: references to datasets, models and artifacts, as the recipe declares them.
            resources: Threads, memory, time and processes that it may use.
            retry: When it is tried again by itself; by default when its process was lost, three times in all.
            environment: The digest of an artifact, a lock of requirements with hashes: what the job's own environment
                is made of. By default, the job runs in the platform's.
            keep_checkpoints: How many of its checkpoints are kept, the last ones.
            name: What to call it.
            experiment: Where its runs are tracked; by default, under the job's name.
            tags: Labels.
            queue: A queue of the project; by default the one that gives what is asked for, if a queue's is asked for.
            pool: The pool whose devices it wants; by default any that its queue has a quota of.
            priority: A priority class, for its place in the queue.
        """
        body = JobCreate(
            recipe=recipe,
            dataset=dataset,
            name=name,
            parameters=dict(parameters or {}),
            inputs=dict(inputs or {}),
            resources=resources or Resources(),
            retry=retry or Retry(),
            environment=environment,
            keep_checkpoints=keep_checkpoints,
            experiment=experiment,
            tags=dict(tags or {}),
            queue=queue,
            pool=pool,
            priority=priority,
        )
        return self._post(Job, "/jobs", body)

    def explain_job(self, job: str) -> JobWhy:
        """Tell why a job waits, and what would let it run."""
        return self._get(JobWhy, f"/jobs/{job}/why")

    def get_training_requirements(
        self,
        recipe: str,
        dataset: str | None = None,
        *,
        rows: int | None = None,
        columns: int | None = None,
        parameters: Mapping[str, Json] | None = None,
        cpus: int = 1,
        confidence: float = 0.9,
    ) -> TrainingRequirements:
        """Tell what time, CPU and memory a training will take, each with an interval, from the recipe's finished jobs.

        Args:
            recipe: The recipe.
            dataset: A dataset version, for its size; or the size itself:
            rows: Of the data.
            columns: Of the data.
            parameters: Those that differ from the recipe's defaults.
            cpus: The threads it would have.
            confidence: How sure the intervals are to be.
        """
        return self._get(
            TrainingRequirements,
            "/models/training-requirements",
            recipe=recipe,
            dataset=dataset,
            rows=rows,
            columns=columns,
            parameters=json.dumps(dict(parameters or {})),
            cpus=cpus,
            confidence=confidence,
        )

    def estimate_cost(
        self,
        recipe: str,
        dataset: str | None = None,
        *,
        rows: int | None = None,
        columns: int | None = None,
        parameters: Mapping[str, Json] | None = None,
        resources: Resources | None = None,
        confidence: float = 0.9,
    ) -> CostEstimate:
        """Tell what a training will cost, with an interval, at the prices of the settings. Takes what
        `get_training_requirements` takes; the CPUs and the memory of `resources` are what is paid for."""
        body = CostRequest(
            recipe=recipe,
            dataset=dataset,
            rows=rows,
            columns=columns,
            parameters=dict(parameters or {}),
            resources=resources or Resources(),
            confidence=confidence,
        )
        return self._post(CostEstimate, "/models/estimate-cost", body)

    def list_jobs(self, **page: Any) -> Page[Job]:
        """List the project's jobs, newest first."""
        return self._list(Job, "/jobs", **page)

    def get_job(self, job: str) -> Job:
        """Return a job."""
        return self._get(Job, f"/jobs/{job}")

    def cancel_job(self, job: str, *, reason: str = "") -> Job:
        """Cancel a job; watch it until it is `canceled`."""
        return self._post(Job, f"/jobs/{job}/cancel", JobCancel(reason=reason))

    def retry_job(self, job: str) -> Job:
        """Try a job again that failed or was cancelled: a further attempt, which goes on from its last checkpoint."""
        return self._post(Job, f"/jobs/{job}/retry")

    def list_job_attempts(self, job: str) -> Page[JobAttempt]:
        """List the attempts at a job: when, how each ended, and what it used."""
        return self._list(JobAttempt, f"/jobs/{job}/attempts")

    def get_job_usage(self, job: str, *, attempt: int | None = None) -> JobUsage:
        """Return what an attempt (by default the last) used over time; also while it runs."""
        return self._get(JobUsage, f"/jobs/{job}/usage", attempt=attempt)

    def list_job_artifacts(self, job: str, *, role: ArtifactRole | str | None = None) -> Page[JobArtifact]:
        """List what files a job was given, and which it made: `input`, `environment`, `output`, `checkpoint`."""
        return self._list(JobArtifact, f"/jobs/{job}/artifacts", role=role)

    def save_job_artifact(self, job: str, body: JobArtifactCreate) -> JobArtifact:
        """Record an output or a checkpoint whose artifact was uploaded; only the job itself may."""
        return self._post(JobArtifact, f"/jobs/{job}/artifacts", body)

    def report_job_progress(self, job: str, done: float, of: float, message: str = "") -> Job:
        """Tell how far a job is; only the job itself may."""
        return self._post(Job, f"/jobs/{job}/progress", ProgressReport(done=done, of=of, message=message))

    def get_job_log(self, job: str, *, offset: int = 0, limit: int = 65_536, attempt: int | None = None) -> JobLog:
        """Return a piece of the output of a job's attempt (by default the last) from a byte offset on."""
        return self._get(JobLog, f"/jobs/{job}/log", offset=offset, limit=limit, attempt=attempt)

    def stream_job_log(self, job: str) -> Iterator[str]:
        """Yield a job's output until the job has ended."""
        with self._rest.stream("GET", f"/jobs/{job}/log/stream", timeout=30.0) as answer:
            yield from answer.iter_text()

    def follow_log(self, job: str, *, offset: int = 0, attempt: int | None = None) -> Iterator[str]:
        """Yield a job's output from a byte offset of an attempt on (by default the last), until the job has ended.

        It asks for piece after piece, so it goes on where it was after the platform was away for a moment, and it works on a
        platform in this process too; `stream_job_log` keeps one connection open instead.
        """
        pause = FIRST_PAUSE_S
        while True:
            piece = self.get_job_log(job, offset=offset, attempt=attempt)
            if piece.text:
                pause = FIRST_PAUSE_S
                yield piece.text
            if piece.complete and piece.next_attempt is None:
                return
            if piece.next_attempt is not None:
                attempt, offset = piece.next_attempt, 0
                continue
            if piece.next_offset == offset:
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
            attempt, offset = piece.attempt or None, piece.next_offset

    def finish_job(self, job: str, report: JobReport) -> Job:
        """Report a job's result; only the job itself may."""
        return self._post(Job, f"/jobs/{job}/result", report)

    def wait_for_job(
        self, job: str, *, within_s: float | None = None, watch: Callable[[Job], None] | None = None
    ) -> Job:
        """Wait until a job has ended, however it ended, and return it.

        Args:
            job: Its id.
            within_s: How long at most; None means as long as it takes.
            watch: Called with the job as it is at each look.

        Raises:
            Unavailable: it has not ended in time.
        """
        return self._await_end(f"The job '{job}'", lambda: self.get_job(job), within_s, watch)
