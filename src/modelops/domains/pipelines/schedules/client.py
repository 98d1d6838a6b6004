"""The client of schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.contracts.rest import Group
from modelops.contracts.schemas import Json, Page
from modelops.domains.pipelines.beginnings.schemas import Beginning, JobTarget, Overlap, PipelineTarget, Target
from modelops.domains.pipelines.schedules.cron import NoCron
from modelops.domains.pipelines.schedules.schemas import CatchUp, DueTimes, Schedule, ScheduleCreate, ScheduleUpdate
from modelops.domains.pipelines.schedules.when import NoTime
from modelops.domains.training.schemas import JobCreate

# The errors too, so that a client far away can raise them.
__all__ = ["NoCron", "NoTime", "Schedules", "target_of"]


class Schedules(Group):
    """Schedules of pipelines and jobs. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def create_schedule(
        self,
        name: str,
        when: str,
        *,
        pipeline: str | None = None,
        version: int | None = None,
        parameters: Mapping[str, Json] | None = None,
        job: JobCreate | None = None,
        zone: str = "UTC",
        description: str = "",
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        paused: bool = False,
        catch_up: CatchUp | str = CatchUp.LATEST,
        catch_up_most: int = 100,
        grace_s: float = 60.0,
        overlap: Overlap | str = Overlap.SKIP,
        jitter_s: float = 0.0,
        moment_parameter: str | None = None,
    ) -> Schedule:
        """Begin a pipeline, or a job, by the clock.

        Args:
            name: What the schedule is called.
            when: `30 2 * * 1-5`, `@daily`, `every 15m`, or `at 2026-01-31T12:00`.
            pipeline: What runs, by name; or else `job`.
            version: Of the pipeline; None means the newest whenever it begins.
            parameters: Of each run.
            job: What is submitted, instead of a pipeline.
            zone: The IANA time zone whose clock `when` speaks of.
            description: For people.
            starts_at: Nothing is due before; an interval is counted from there.
            ends_at: Nothing is due after.
            paused: Nothing begins until it is let go on.
            catch_up: What becomes of moments that were missed: `none`, `latest` or `all`.
            catch_up_most: How many `all` makes up for, at most.
            grace_s: With `none`, seconds after which a moment is missed.
            overlap: While what began is under way: `skip`, `queue`, `cancel_running` or `allow`.
            jitter_s: It begins within so many seconds after its moment.
            moment_parameter: The parameter that is given the due moment.

        Raises:
            NoCron, NoTime: `when` or `zone` cannot be read.
        """
        body = ScheduleCreate(
            name=name,
            when=when,
            target=target_of(pipeline, version, parameters, job),
            zone=zone,
            description=description,
            starts_at=starts_at,
            ends_at=ends_at,
            paused=paused,
            catch_up=CatchUp(catch_up),
            catch_up_most=catch_up_most,
            grace_s=grace_s,
            overlap=Overlap(overlap),
            jitter_s=jitter_s,
            moment_parameter=moment_parameter,
        )
        return self._post(Schedule, "/pipeline-schedules", body)

    def list_schedules(self, **page: Any) -> Page[Schedule]:
        """List the project's schedules."""
        return self._list(Schedule, "/pipeline-schedules", **page)

    def list_scheduled_jobs(self, **page: Any) -> Page[Schedule]:
        """List the schedules that begin training jobs."""
        return self._list(Schedule, "/training/scheduled", **page)

    def get_schedule(self, schedule: str) -> Schedule:
        """Return a schedule, by name or id."""
        return self._get(Schedule, f"/pipeline-schedules/{schedule}")

    def update_schedule(self, schedule: str, *, revision: int | None = None, **changes: Any) -> Schedule:
        """Change a schedule, or pause it or let it go on (`paused`); with `revision`, only while it is still at that one.

        The changes are fields of `ScheduleUpdate`, such as `when`, `zone`, `target`, `overlap`; None clears a start, an end
        or a `moment_parameter`.
        """
        body = ScheduleUpdate(**changes).model_dump(mode="json", include=set(changes))
        return self._patch(Schedule, f"/pipeline-schedules/{schedule}", body, revision)

    def delete_schedule(self, schedule: str) -> None:
        """Remove a schedule. What it began goes on."""
        self._delete(f"/pipeline-schedules/{schedule}")

    def run_schedule(self, schedule: str) -> Beginning:
        """Begin now what a schedule begins, by its policy of overlap."""
        return self._post(Beginning, f"/pipeline-schedules/{schedule}/run")

    def list_next_times(self, schedule: str, *, count: int = 10) -> DueTimes:
        """List the next moments at which a schedule is due."""
        return self._get(DueTimes, f"/pipeline-schedules/{schedule}/next", count=count)

    def preview_times(self, when: str, *, zone: str = "UTC", count: int = 10) -> DueTimes:
        """List the moments at which a schedule would be due that began now."""
        return self._get(DueTimes, "/pipeline-schedule-times", when=when, zone=zone, count=count)

    def list_schedule_history(self, schedule: str, **page: Any) -> Page[Beginning]:
        """List what became of a schedule's moments, newest first."""
        return self._list(Beginning, f"/pipeline-schedules/{schedule}/history", **page)


def target_of(
    pipeline: str | None, version: int | None, parameters: Mapping[str, Json] | None, job: JobCreate | None
) -> Target:
    """Return what is to begin.

    Raises:
        InvalidInput: it is not either a pipeline or a job.
    """
    if (pipeline is None) == (job is None):
        raise InvalidInput("Either a pipeline or a job is to begin.", hint="Name one of them.")
    if pipeline is not None:
        return PipelineTarget(pipeline=pipeline, version=version, parameters=dict(parameters or {}))
    if job is None or version is not None or parameters:
        raise InvalidInput("A job's parameters are in the job.", hint="Leave out `version` and `parameters`.")
    return JobTarget(job=job)
