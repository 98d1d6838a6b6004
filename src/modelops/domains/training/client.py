"""The client of training."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelops.contracts.errors import Unavailable
from modelops.contracts.rest import Group
from modelops.contracts.schemas import Json, Page
from modelops.domains.training.schemas import Job, JobCancel, JobCreate, JobLog, JobReport, RecipeInfo, Resources

_FIRST_PAUSE_S = 0.05


class Training(Group):
    """Recipes and jobs. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def list_recipes(self) -> Page[RecipeInfo]:
        """List the installed recipes with the parameters that they take."""
        return self._list(RecipeInfo, "/recipes")

    def submit_job(
        self,
        recipe: str,
        dataset: str,
        *,
        parameters: Mapping[str, Json] | None = None,
        resources: Resources | None = None,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Job:
        """Queue a job that runs a recipe on a dataset version (`name`, `name:3`)."""
        body = JobCreate(
            recipe=recipe,
            dataset=dataset,
            name=name,
            parameters=dict(parameters or {}),
            resources=resources or Resources(),
            experiment=experiment,
            tags=dict(tags or {}),
        )
        return self._post(Job, "/jobs", body)

    def list_jobs(self, **page: Any) -> Page[Job]:
        """List the project's jobs, newest first."""
        return self._list(Job, "/jobs", **page)

    def get_job(self, job: str) -> Job:
        """Return a job."""
        return self._get(Job, f"/jobs/{job}")

    def cancel_job(self, job: str, *, reason: str = "") -> Job:
        """Cancel a job; watch it until it is `canceled`."""
        return self._post(Job, f"/jobs/{job}/cancel", JobCancel(reason=reason))

    def get_job_log(self, job: str, *, offset: int = 0, limit: int = 65_536) -> JobLog:
        """Return a piece of a job's output from a byte offset on."""
        return self._get(JobLog, f"/jobs/{job}/log", offset=offset, limit=limit)

    def stream_job_log(self, job: str) -> Iterator[str]:
        """Yield a job's output until the job has ended."""
        with self._rest.stream("GET", f"/jobs/{job}/log/stream", timeout=30.0) as answer:
            yield from answer.iter_text()

    def follow_log(self, job: str, *, offset: int = 0) -> Iterator[str]:
        """Yield a job's output from a byte offset on, until the job has ended.

        It asks for piece after piece, so it goes on where it was after the platform was away for a moment, and it works on a
        platform in this process too; `stream_job_log` keeps one connection open instead.
        """
        pause = _FIRST_PAUSE_S
        while True:
            piece = self.get_job_log(job, offset=offset)
            if piece.text:
                pause = _FIRST_PAUSE_S
                yield piece.text
            if piece.complete:
                return
            if piece.next_offset == offset:
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
            offset = piece.next_offset

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
        deadline = None if within_s is None else time.monotonic() + within_s
        pause = _FIRST_PAUSE_S
        while True:
            found = self.get_job(job)
            if watch is not None:
                watch(found)
            if found.state.final:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise Unavailable(f"The job '{job}' is still {found.state} after {within_s:g} s.")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
