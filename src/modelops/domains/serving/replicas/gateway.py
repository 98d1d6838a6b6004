"""Calls to replicas: whose turn it is, the next one where a replica is gone, and the replica's answer as it is."""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from modelops.domains.serving.errors import NoReplicaReady, ReplicaBroke, RuntimeTimeout

TOKEN_TTL_S = 600
_RENEW_BEFORE_S = 120
_CONNECT_S = 2.0
_MAX_CONNECTIONS = 1_000
_KEPT_CONNECTIONS = 100
_KEPT_S = 5.0
_BROKEN_AT_MOST = 2
"""How many replicas may break on one request: it may be the request that breaks them."""

_NOT_OURS_TO_SHOW = frozenset({401, 403})
_BUSY = 503


@dataclass(frozen=True)
class Answer:
    """A replica's answer: a result or a problem document."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Gateway:
    """Calls replicas over connections that are kept. Thread-safe."""

    def __init__(self) -> None:
        limits = httpx.Limits(
            max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_KEPT_CONNECTIONS, keepalive_expiry=_KEPT_S
        )
        self._http = httpx.Client(limits=limits, trust_env=False, follow_redirects=False)
        self._turns = itertools.count()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def token(self, project_id: str, now_s: float, issue: Callable[[], str]) -> str:
        """Return the platform's token for calls to a project's replicas, issued anew before it expires.

        Args:
            now_s: The present on a monotonic clock.
            issue: Issues a token that is valid for `TOKEN_TTL_S`.
        """
        with self._lock:
            token, until = self._tokens.get(project_id, ("", now_s))
            if until - now_s > _RENEW_BEFORE_S:
                return token
        token = issue()
        with self._lock:
            self._tokens[project_id] = (token, now_s + TOKEN_TTL_S)
        return token

    def forget_token(self, project_id: str) -> None:
        """Issue a new token at the next call."""
        with self._lock:
            self._tokens.pop(project_id, None)

    def call(
        self, endpoints: Sequence[str], path: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> Answer:
        """Send a request to one of the replicas and return its answer, whatever its status.

        Raises:
            NoReplicaReady: none could be reached, or none takes the platform's token.
            ReplicaBroke: one took the request and broke off, and no other answered.
            RuntimeTimeout: one took the request and did not answer in time.
        """
        first = next(self._turns)
        timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
        busy: Answer | None = None
        why, broken = "It has no replica that is ready.", 0
        for turn in range(len(endpoints)):
            url = endpoints[(first + turn) % len(endpoints)].rstrip("/") + path
            try:
                answer = self._http.post(url, content=body, headers=headers, timeout=timeout)
            except (httpx.ConnectError, httpx.ConnectTimeout) as wrong:
                why = f"Its replica cannot be reached ({str(wrong) or type(wrong).__name__})."
                continue
            except httpx.TimeoutException as wrong:
                raise RuntimeTimeout(f"The replica did not answer within {timeout_s:g} s.") from wrong
            except httpx.TransportError as wrong:
                why, broken = f"Its replica broke off ({str(wrong) or type(wrong).__name__}).", broken + 1
                if broken >= _BROKEN_AT_MOST:
                    break
                continue
            if answer.status_code in _NOT_OURS_TO_SHOW:
                why = f"Its replica refused the platform's token ({answer.status_code})."
                continue
            found = Answer(answer.status_code, answer.content, answer.headers)
            if answer.status_code != _BUSY:
                return found
            busy = found
        if busy is not None:
            return busy
        raise ReplicaBroke(why) if broken else NoReplicaReady(why)

    def read(self, endpoint: str, path: str, headers: Mapping[str, str], timeout_s: float) -> Answer | None:
        """Ask one replica for what it knows of itself; None where it does not answer in time."""
        try:
            answer = self._http.get(endpoint.rstrip("/") + path, headers=headers, timeout=timeout_s)
        except httpx.TransportError:
            return None
        return Answer(answer.status_code, answer.content, answer.headers)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
