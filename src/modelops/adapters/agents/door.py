"""Asking an agent for output: the platform's side. What is asked is sealed, so only who has the platform's secret key can ask."""

import json
from datetime import datetime, timedelta
from typing import Any

import httpx

from modelops.adapters.agents import wire
from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput, Unauthenticated, Unavailable
from modelops.contracts.ports import UsageSample
from modelops.kernel.secrets import SecretBox

PATH = "/output"
HEADER = "Authorization"

_LABEL = "agent-door"
_VALID = timedelta(seconds=60)
_TIMEOUT_S = 5.0


class AgentDoor:
    """Calls agents. Thread-safe; close it."""

    def __init__(self, box: SecretBox, clock: Clock) -> None:
        self._box = box
        self._clock = clock
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def log(self, url: str, host: str, kind: str, name: str, index: int, offset: int, limit: int) -> bytes:
        """Return a piece of a process's output.

        Raises:
            Unavailable: the agent does not answer.
        """
        what = {"what": "log", "kind": kind, "name": name, "index": index, "offset": offset, "limit": limit}
        return self._ask(url, host, what)

    def usage(self, url: str, host: str, name: str) -> list[UsageSample]:
        """Return what was sampled of an attempt. Raises as `log`."""
        return wire.SAMPLES.validate_json(self._ask(url, host, {"what": "usage", "name": name}))

    def _ask(self, url: str, host: str, what: dict[str, Any]) -> bytes:
        until = (self._clock.now() + _VALID).isoformat()
        sealed = self._box.seal(json.dumps({**what, "until": until}).encode(), _LABEL)
        try:
            answer = self._client.get(url + PATH, headers={HEADER: f"Bearer {sealed}"})
            answer.raise_for_status()
        except httpx.HTTPError as wrong:
            raise Unavailable(
                f"The agent on {host} does not hand out its output: {wrong}.",
                hint="Try again in a moment; `mops doctor` tells which agents are heard of.",
            ) from wrong
        return answer.content


def read_question(box: SecretBox, header: str | None, now: datetime) -> dict[str, Any]:
    """Return what is asked by an `Authorization` header.

    Raises:
        Unauthenticated: nobody with the platform's secret key asked it within the last minute.
    """
    scheme, _, sealed = (header or "").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise ValueError(scheme)
        asked: dict[str, Any] = json.loads(box.open(sealed.strip(), _LABEL))
    except (ValueError, InvalidInput) as wrong:
        raise Unauthenticated("Only the platform may ask an agent.") from wrong
    if datetime.fromisoformat(asked["until"]) < now:
        raise Unauthenticated("What is asked was sealed too long ago; are the clocks right?")
    return asked
