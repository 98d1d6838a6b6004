"""The client of triggers."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Json, Page
from modelops.domains.pipelines.beginnings.schemas import Beginning, Overlap
from modelops.domains.pipelines.schedules.client import target_of
from modelops.domains.pipelines.triggers.schemas import (
    RateLimit,
    Trigger,
    TriggerCreate,
    TriggerCreated,
    TriggerUpdate,
)
from modelops.domains.training.schemas import JobCreate


class Triggers(Group):
    """Triggers of pipelines and jobs. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def create_trigger(
        self,
        name: str,
        *,
        events: Sequence[str] | None = None,
        hook: bool = False,
        pipeline: str | None = None,
        version: int | None = None,
        parameters: Mapping[str, Json] | None = None,
        job: JobCreate | None = None,
        condition: str | None = None,
        mapping: Mapping[str, str] | None = None,
        description: str = "",
        paused: bool = False,
        debounce_s: float = 0.0,
        limit: RateLimit | None = None,
        overlap: Overlap | str = Overlap.ALLOW,
    ) -> TriggerCreated:
        """Begin a pipeline, or a job, because something happens; of a hook, path and secret are in this answer only.

        Args:
            name: What the trigger is called.
            events: Types of the project's events, such as `modelops.models.stage_changed`; `*` stands for any characters.
            hook: Or else a path of its own, that others send signed messages to.
            pipeline: What runs, by name; or else `job`.
            version: Of the pipeline; None means the newest whenever it begins.
            parameters: Of each run.
            job: What is submitted, instead of a pipeline.
            condition: Such as `data.to_stage = "Production"`.
            mapping: Parameter -> field of the event: `{"model": "data.model"}`.
            description: For people.
            paused: Nothing begins until it is let go on.
            debounce_s: It begins once nothing has happened for so long, for the last that happened.
            limit: How many begin in which time, at most.
            overlap: While what began is under way: `skip`, `queue`, `cancel_running` or `allow`.
        """
        body = TriggerCreate(
            name=name,
            target=target_of(pipeline, version, parameters, job),
            events=None if events is None else list(events),
            hook=hook,
            condition=condition,
            mapping=dict(mapping or {}),
            description=description,
            paused=paused,
            debounce_s=debounce_s,
            limit=limit,
            overlap=Overlap(overlap),
        )
        return self._post(TriggerCreated, "/pipeline-triggers", body)

    def list_triggers(self, **page: Any) -> Page[Trigger]:
        """List the project's triggers."""
        return self._list(Trigger, "/pipeline-triggers", **page)

    def get_trigger(self, trigger: str) -> Trigger:
        """Return a trigger, by name or id."""
        return self._get(Trigger, f"/pipeline-triggers/{trigger}")

    def update_trigger(self, trigger: str, *, revision: int | None = None, **changes: Any) -> Trigger:
        """Change a trigger, or pause it or let it go on (`paused`); with `revision`, only while it is still at that one.

        The changes are fields of `TriggerUpdate`, such as `condition`, `mapping`, `target`; None clears a condition or a limit.
        """
        body = TriggerUpdate(**changes).model_dump(mode="json", include=set(changes))
        return self._patch(Trigger, f"/pipeline-triggers/{trigger}", body, revision)

    def delete_trigger(self, trigger: str) -> None:
        """Remove a trigger. What it began goes on."""
        self._delete(f"/pipeline-triggers/{trigger}")

    def rotate_trigger_secret(self, trigger: str) -> TriggerCreated:
        """Give a hook another path and secret from now on; they are in this answer only."""
        return self._post(TriggerCreated, f"/pipeline-triggers/{trigger}/secret")

    def list_trigger_history(self, trigger: str, **page: Any) -> Page[Beginning]:
        """List what a trigger led to, newest first."""
        return self._list(Beginning, f"/pipeline-triggers/{trigger}/history", **page)
