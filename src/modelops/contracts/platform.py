"""Payloads of the platform itself."""

from modelops.contracts.schemas import Schema


class HealthCheck(Schema):
    """One part, and whether it is in order."""

    name: str
    healthy: bool
    detail: str


class Health(Schema):
    """Whether every part is in order."""

    healthy: bool
    checks: list[HealthCheck]


class VersionInfo(Schema):
    """The versions that run."""

    version: str
    python: str
    packages: dict[str, str]
