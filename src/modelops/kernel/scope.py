"""A scope: an authenticated request that opens its own units of work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from starlette.requests import Request

from modelops.contracts.errors import AlreadyExists, PermissionDenied
from modelops.kernel import audit
from modelops.kernel.context import Actor, Context, project_of
from modelops.kernel.work import Workplace

LIMIT_KEY = "modelops.body_limit"
"""Where the body limit of a request lies in its ASGI scope."""


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
            raise AlreadyExists("Another request created or changed the same thing at the same moment.") from taken
        except PermissionDenied as denied:
            audit.record_denied(self.place, self.actor, self.operation, self.request.url.path, denied, request_id)
            raise


def request_id_of(request: Request) -> str | None:
    """Return the id under which a request is logged."""
    return getattr(request.state, "request_id", None)
