"""A scope: an authenticated request that opens its own units of work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request

from modelops.contracts.errors import AlreadyExists, PermissionDenied
from modelops.kernel import audit
from modelops.kernel.context import Actor, Context, project_of
from modelops.kernel.database import Raw
from modelops.kernel.work import Workplace

T = TypeVar("T")

_ATTEMPTS = 3

LIMIT_KEY = "modelops.body_limit"
"""Where the body limit of a request lies in its ASGI scope."""


class Outrun(AlreadyExists):
    """Another request created or changed the same thing at the same moment."""

    def __init__(self) -> None:
        super().__init__("Another request created or changed the same thing at the same moment.", hint="Send it again.")


def outlast_races(work: Callable[[], T]) -> T:
    """Run a unit of work, and again where another request was faster: what that one committed decides what becomes of this.

    Raises:
        Outrun: it was outrun each time.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(Outrun):
            return work()
    return work()


@dataclass(frozen=True)
class Scope:
    """An authenticated request that opens its own units of work."""

    place: Workplace
    actor: Actor
    request: Request
    operation: str

    @property
    def project_id(self) -> str:
        """Return the project that is worked in. Raises as `Context.project_id`."""
        return project_of(self.actor)

    def accept_upload(self) -> None:
        """Let this request's body be as long as an upload may be."""
        limit = self.request.scope.get(LIMIT_KEY)
        if limit is not None:
            limit["bytes"] = limit["upload"]

    @contextmanager
    def work(self, *, write: bool = True) -> Iterator[Context]:
        """Open a unit of work of the caller; a writing one leaves an audit record."""
        request_id = request_id_of(self.request)
        if_match = self.request.headers.get("if-match")
        try:
            with self.place.work(self.actor, write=write, request_id=request_id, if_match=if_match) as ctx:
                yield ctx
                if write:
                    audit.record(ctx, self.operation, self.request.url.path, "done")
        except IntegrityError as taken:
            raise Outrun from taken
        except PermissionDenied as denied:
            audit.record_denied(self.place, self.actor, self.operation, self.request.url.path, denied, request_id)
            raise

    async def write(self, run: Callable[[Raw], T], *, permission: str, order: str = "", size: int = 0) -> T:
        """Have the writer run a write of the caller and wait, on the event loop, for its commit. Raises as `Writer.write`.

        A write leaves no audit record, unless it puts one; a denied one does.

        Args:
            run, order, size: As `Writer.write`.
            permission: What the caller needs for it.

        Raises:
            PermissionDenied: the caller lacks the permission.
            InvalidInput: no project is chosen.
        """
        project_of(self.actor)
        try:
            self.actor.require(permission)
            return await self.place.writer.write(run, order=order, size=size)
        except PermissionDenied as denied:
            path, request_id = self.request.url.path, request_id_of(self.request)
            await run_in_threadpool(
                audit.record_denied, self.place, self.actor, self.operation, path, denied, request_id
            )
            raise


def request_id_of(request: Request) -> str | None:
    """Return the id under which a request is logged."""
    return getattr(request.state, "request_id", None)
