"""A platform inside another program's process: no server, no port, until a job or runtime needs to call back.

An httpx transport speaks ASGI to the application on an event loop of its own; uploads and answers are streamed through it.
"""

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message

from modelops.contracts.rest import Rest
from modelops.contracts.settings import Settings
from modelops.sdk.connection import SignIn, headers, read_sign_in, write_sign_in
from modelops.server.home import HomeLock
from modelops.server.listener import Listener
from modelops.server.membership import Membership
from modelops.server.platform import open_platform

_CHUNKS_AHEAD = 16


def open_embedded(settings: Settings) -> Rest:
    """Open a platform on the settings' home folder and return a connection into it.

    It runs the controller unless another process does: `mops up` or another embedded platform on this home, or processes of a
    cluster on this database.
    """
    platform = open_platform(settings)
    if platform.first_key is not None:
        write_sign_in(settings.home, SignIn(None, platform.first_key))
    kept = read_sign_in(settings.home)
    token = settings.token.get_secret_value() if settings.token else (kept.token if kept else None)
    project = settings.project or (kept.project if kept else None)
    stack = contextlib.ExitStack()
    stack.callback(platform.close)
    lock, membership = HomeLock(settings.home), Membership(platform.place.database)
    stack.callback(lock.release)
    is_free = lock.try_acquire()
    if is_free and not membership.try_join(alone=True):
        lock.release()
    elif is_free:
        stack.callback(membership.leave)
        listener = Listener(platform, remembered=settings.home / "embedded-port")
        platform.url.listen = listener.start
        stack.callback(listener.stop)
        platform.start_controller()
    portal = stack.enter_context(start_blocking_portal())
    transport = EmbeddedTransport(platform.app, portal, stack)
    http = httpx.Client(
        transport=transport,
        base_url="http://embedded",
        headers=headers(token, project),
        timeout=settings.request_timeout_s,
    )
    return Rest(http)


class EmbeddedTransport(httpx.BaseTransport):
    """Sends requests into an ASGI application in this process.

    Args:
        app: The application.
        portal: The event loop that it runs on.
        owned: Closed with the transport.
    """

    def __init__(self, app: ASGIApp, portal: BlockingPortal, owned: contextlib.ExitStack) -> None:
        self.app = app
        self.portal = portal
        self._owned = owned

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return the answer once its head is there; the body streams."""
        exchange = _Exchange(self.app, request, self.portal)
        status, raw_headers = exchange.start()
        return httpx.Response(status, headers=raw_headers, stream=exchange)

    def close(self) -> None:
        """Close what the transport owns."""
        self._owned.close()


class _Exchange(httpx.SyncByteStream):
    """One request and its answer: the application runs on the portal's loop, the caller reads in its own thread."""

    def __init__(self, app: ASGIApp, request: httpx.Request, portal: BlockingPortal) -> None:
        self._app = app
        self._portal = portal
        self._body: Iterator[bytes] = iter(request.stream)  # type: ignore[arg-type]
        self._scope = _scope(request)
        self._head: Future[tuple[int, list[tuple[bytes, bytes]]]] = Future()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_CHUNKS_AHEAD)
        self._closed = threading.Event()
        self._sent_all = False

    def start(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        self._task = self._portal.start_task_soon(self._run)
        return self._head.result()

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._chunks.get()) is not None:
            yield chunk
        self._task.result()

    def close(self) -> None:
        self._closed.set()
        while not self._task.done():  # let the application finish or notice, never block it
            with contextlib.suppress(queue.Empty):
                self._chunks.get(timeout=0.05)

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except BaseException as error:
            if not self._head.done():
                self._head.set_exception(error)
            raise
        finally:
            await self._put(None)

    async def _receive(self) -> Message:
        from anyio import to_thread

        if not self._sent_all:
            chunk = await to_thread.run_sync(next, self._body, None)
            self._sent_all = chunk is None
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}
        while not self._closed.is_set():
            await to_thread.run_sync(self._closed.wait, 0.2, abandon_on_cancel=True)
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head.set_result((message["status"], list(message["headers"])))
        elif message["type"] == "http.response.body" and message.get("body"):
            await self._put(message["body"])

    async def _put(self, chunk: bytes | None) -> None:
        from anyio import to_thread

        while not self._closed.is_set():
            try:
                self._chunks.put_nowait(chunk)
                return
            except queue.Full:
                await to_thread.run_sync(self._closed.wait, 0.01)


def _scope(request: httpx.Request) -> dict[str, Any]:
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
        "modelops.embedded": True,
    }
