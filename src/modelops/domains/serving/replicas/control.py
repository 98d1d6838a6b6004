"""Calls that have a replica serve another revision document, in place, and that ask it what it serves."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import ValidationError

from modelops.domains.serving.schemas import ReplicaRevision

PERMISSION = "deployments.configure"
"""What the platform's token for these calls is for; no role has it."""

TOKEN_TTL_S = 300
_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
_AT_ONCE = 8
_UNABLE = frozenset({404, 405})
_NOT_NOW = frozenset({401, 403, 408, 429})


@dataclass(frozen=True)
class Reply:
    """What a replica answered: its state where it could be read, or why it refuses for good; neither, if it was away."""

    state: ReplicaRevision | None = None
    refusal: str | None = None


class ReplicaControl:
    """Directs replicas over HTTP. Thread-safe."""

    def __init__(self) -> None:
        self._http = httpx.Client(timeout=_TIMEOUT, trust_env=False, follow_redirects=False)

    def read(self, endpoints: Sequence[str], token: str) -> list[Reply]:
        """Ask replicas what they serve (`GET /revision`)."""
        return self._each(lambda endpoint: self._call("GET", endpoint, token, None), endpoints)

    def send(self, endpoints: Sequence[str], token: str, document: str) -> list[Reply]:
        """Have replicas serve a document (`PUT /revision`). They go over in their own time: `read` tells when."""
        return self._each(lambda endpoint: self._call("PUT", endpoint, token, document.encode()), endpoints)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _each(self, call: Callable[[str], Reply], endpoints: Sequence[str]) -> list[Reply]:
        if len(endpoints) < 2:
            return [call(endpoint) for endpoint in endpoints]
        with ThreadPoolExecutor(min(len(endpoints), _AT_ONCE)) as pool:
            return list(pool.map(call, endpoints))

    def _call(self, method: str, endpoint: str, token: str, content: bytes | None) -> Reply:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        try:
            answer = self._http.request(method, f"{endpoint.rstrip('/')}/revision", content=content, headers=headers)
        except httpx.TransportError:
            return Reply()
        if answer.status_code in _UNABLE:
            return Reply(refusal="its runtime cannot change what it serves; it is of an older version.")
        if answer.is_success:
            return _read(answer) if method == "GET" else Reply()
        if answer.status_code in _NOT_NOW or answer.is_server_error:
            return Reply()
        return Reply(refusal=_detail(answer))


def _read(answer: httpx.Response) -> Reply:
    try:
        return Reply(ReplicaRevision.model_validate_json(answer.content))
    except ValidationError:
        return Reply(refusal="its answer cannot be read; its runtime is of another version.")


def _detail(answer: httpx.Response) -> str:
    try:
        found: Any = answer.json()
        return str(found["detail"])[:1_000]
    except (ValueError, KeyError, TypeError):
        return f"it answered {answer.status_code}."
