"""The base of every client: one connection to a platform, and the group of methods a domain hangs on it.

`Rest` signs, retries and turns problem documents back into the errors that the server raised. `Group` is what a domain's
`client.py` derives from; its methods are named as the routes' operation ids.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter
from uuid_utils import uuid7

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.contracts.schemas import Page, jsonable

S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")

PREFIX = "/v1"
log = logging.getLogger(__name__)
_RETRIED = frozenset({429, 502, 503, 504})
FIRST_PAUSE_S = 0.05
"""How soon something that is waited for is looked at again, at first."""


class State(Protocol):
    """Where something is that ends at some time."""

    @property
    def final(self) -> bool:
        """Tell whether it has ended."""
        ...


class HasState(Protocol):
    """Something that ends at some time."""

    @property
    def state(self) -> State:
        """Return where it is."""
        ...


Ending = TypeVar("Ending", bound=HasState)


class Rest:
    """A connection to a platform. Thread-safe; close it, or use it as a context manager.

    Args:
        http: The transport: over the network, or into an application in this process.
        retry_for_s: For how long a request that may be repeated is tried again while the platform does not answer.
    """

    def __init__(self, http: httpx.Client, *, retry_for_s: float = 10.0) -> None:
        self.http = http
        self.retry_for_s = retry_for_s

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a request below `/v1` and return the answer of a success.

        A create carries an `Idempotency-Key`, so it too is repeated safely when the connection breaks. A streamed
        `content` cannot be sent again and is not retried.

        Raises:
            MLOpsError: the class that the server raised.
            Unavailable: no answer within `retry_for_s`.
        """
        sent = dict(headers or {})
        if method == "POST":
            sent.setdefault("Idempotency-Key", uuid7().hex)
        options: dict[str, Any] = {"headers": sent, "params": _plain(params)}
        if json is not None:
            options["json"] = jsonable(json)
        if content is not None:
            options["content"] = content
        if timeout is not None:
            options["timeout"] = timeout
        repeatable = content is None or isinstance(content, bytes)
        return self._send(method, PREFIX + path, options, repeatable)

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Open a streamed answer, which may be a redirection. Raises as `request`."""
        options: dict[str, Any] = {"params": _plain(params), "headers": dict(headers or {})}
        if timeout is not None:
            options["timeout"] = httpx.Timeout(timeout, read=None)
        try:
            with self.http.stream(method, PREFIX + path, **options) as answer:
                if answer.is_error:
                    answer.read()
                    raise _error(answer)
                yield answer
        except httpx.TransportError as broken:
            raise _unreachable(self.http, broken) from broken

    def close(self) -> None:
        """Close the connection."""
        self.http.close()

    def _send(self, method: str, url: str, options: dict[str, Any], repeatable: bool) -> httpx.Response:
        deadline = time.monotonic() + self.retry_for_s
        pause = 0.05
        while True:
            failure: MLOpsError
            try:
                began = time.monotonic()
                answer = self.http.request(method, url, **options)
                log.debug(
                    "%s %s: %d in %.1f ms (%s)",
                    method,
                    url,
                    answer.status_code,
                    (time.monotonic() - began) * 1e3,
                    answer.headers.get("x-request-id"),
                )
                if answer.is_success:
                    return answer
                failure = _error(answer)
                if answer.status_code not in _RETRIED or not repeatable:
                    raise failure
                pause = max(pause, failure.retry_after_s)
            except httpx.TransportError as broken:
                failure = _unreachable(self.http, broken)
                if not repeatable:
                    raise failure from broken
            if time.monotonic() + pause > deadline:
                raise failure
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, 2.0)


class Group:
    """The methods of one domain on a connection."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def _await_end(
        self, what: str, look: Callable[[], Ending], within_s: float | None, watch: Callable[[Ending], None] | None
    ) -> Ending:
        """Look at something, ever less often, until its state is final, and return it.

        Raises:
            Unavailable: it has not ended within the time; None is as long as it takes.
        """
        deadline = None if within_s is None else time.monotonic() + within_s
        pause = FIRST_PAUSE_S
        while True:
            found = look()
            if watch is not None:
                watch(found)
            if found.state.final:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise Unavailable(f"{what} is still {found.state} after {within_s:g} s.")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def _get(self, schema: type[S], path: str, **params: Any) -> S:
        return schema.model_validate_json(self._rest.request("GET", path, params=params).content)

    def _post(self, schema: type[S], path: str, body: Any = None, **options: Any) -> S:
        return schema.model_validate_json(self._rest.request("POST", path, json=body, **options).content)

    def _put(self, schema: type[S], path: str, body: Any = None, **options: Any) -> S:
        return schema.model_validate_json(self._rest.request("PUT", path, json=body, **options).content)

    def _patch(self, schema: type[S], path: str, body: Any, revision: int | None = None) -> S:
        headers = {} if revision is None else {"If-Match": f'"{revision}"'}
        return schema.model_validate_json(self._rest.request("PATCH", path, json=body, headers=headers).content)

    def _delete(self, path: str) -> None:
        self._rest.request("DELETE", path)

    def _list(self, item: type[T], path: str, **params: Any) -> Page[T]:
        return TypeAdapter(Page[item]).validate_json(self._rest.request("GET", path, params=params).content)  # type: ignore[valid-type]

    def _all(self, item: type[T], path: str, **params: Any) -> Iterator[T]:
        """Walk every page of a listing."""
        cursor: str | None = None
        while True:
            page = self._list(item, path, **{**params, "cursor": cursor})
            yield from page.items
            if not (cursor := page.next_cursor):
                return


def _plain(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: jsonable(value) for key, value in (params or {}).items() if value is not None}


def _error(answer: httpx.Response) -> MLOpsError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {"detail": f"{answer.request.url} answered {answer.status_code}: {answer.text[:200]}"}
    error = MLOpsError.from_problem(problem if isinstance(problem, dict) else {}, answer.status_code)
    with suppress(ValueError):  # a date, which our server never sends, says nothing here
        error.retry_after_s = max(0.0, float(answer.headers.get("Retry-After") or 0))
    return error


def _unreachable(http: httpx.Client, why: Exception) -> Unavailable:
    return Unavailable(
        f"The platform at {http.base_url} does not answer: {why}.",
        hint="Start it with `mops up`, or name another with `MODELOPS_URL` or `mops login --url`.",
    )
