"""What tests of schedules and triggers share: a clock that can be set, pipelines without code, and how runs end."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from modelops.domains.pipelines.beginnings.tables import BeginningRow
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.schemas import PipelineCreate
from modelops.domains.pipelines.tables import PipelineRunRow
from modelops.domains.pipelines.templates import register_pipeline
from modelops.testing.clock import VirtualClock

START = datetime(2025, 6, 2, 12, 0, tzinfo=UTC)


class SetClock(VirtualClock):
    """A clock whose hands can be set, back too; what it measures goes on."""

    def __init__(self, start=START):
        super().__init__(start)
        self.shift = timedelta()

    def now(self):
        return super().now() + self.shift

    def set_by(self, **units):
        self.shift += timedelta(**units)


DOCUMENT = {
    "name": "train",
    "parameters": {"day": {"type": "string"}, "size": {"type": "integer", "default": 3}},
    "steps": {"ask": {"approval": {"message": "Go on?"}}},
}


def register(platform, **changes):
    document = PipelineDocument.model_validate({**DOCUMENT, **changes})
    with platform.place.work(actor(platform)) as ctx:
        return register_pipeline(ctx, PipelineCreate(document=document))


def actor(platform, permissions=("*",)):
    from modelops.kernel.context import Actor

    me = platform.client().identity.get_me()
    return Actor(me.id, me.name, "user", me.tenant_id, me.project_id, None, frozenset(permissions))


def runs(platform):
    """Return (cause, parameters) of every run, oldest first."""
    with platform.place.work(write=False) as ctx:
        rows = ctx.session.scalars(select(PipelineRunRow).order_by(PipelineRunRow.id)).all()
        return [(row.cause, row.parameters) for row in rows]


def open_runs(platform):
    with platform.place.work(write=False) as ctx:
        return list(ctx.session.scalars(select(PipelineRunRow.id).where(PipelineRunRow.ended_at.is_(None))))


def end_runs(platform):
    """End every run, as whoever conducts them would."""
    with platform.place.work() as ctx:
        for row in ctx.session.scalars(select(PipelineRunRow).where(PipelineRunRow.ended_at.is_(None))):
            row.state, row.ended_at = "succeeded", ctx.clock.now()


def beginnings(platform):
    with platform.place.work(write=False) as ctx:
        return list(ctx.session.scalars(select(BeginningRow).order_by(BeginningRow.moment, BeginningRow.id)))


def states(platform):
    return [row.state for row in beginnings(platform)]
