"""The client of the platform itself."""

from collections.abc import Iterator

from modelops.contracts.events import Event
from modelops.contracts.platform import Health, VersionInfo
from modelops.contracts.rest import Group


class Platform(Group):
    """Health, version and the event stream."""

    def get_version(self) -> VersionInfo:
        """Return the versions that run."""
        return self._get(VersionInfo, "/version")

    def get_health(self) -> Health:
        """Check each part of the platform."""
        return self._get(Health, "/health")

    def stream_events(self, *, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Yield the project's events behind a position, in order; with `follow`, then those that happen."""
        params = {"after": after, "follow": follow}
        with self._rest.stream("GET", "/events", params=params, timeout=30.0) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield Event.model_validate_json(line.removeprefix("data: "))
