"""Payloads of validations and of the policy that asks for them."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelops.contracts.schemas import Digest, Json, Key, Schema, Text, UtcTime
from modelops.contracts.signing import Signature
from modelops.domains.models.schemas import ModelRef, Stage


class Task(StrEnum):
    """What a model is for."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


CHECK_NAME = r"^[a-z0-9][a-z0-9_.-]{0,99}$"
CheckName = Annotated[str, StringConstraints(pattern=CHECK_NAME)]


class CheckResult(Schema):
    """What a check found. `parameters` are those it was run with; `figures` are named numbers, such as
    `champion.accuracy`."""

    name: CheckName
    passed: bool
    reason: Text
    figures: Annotated[dict[Key, float], Field(max_length=2_000)] = {}
    parameters: Annotated[dict[Key, Json], Field(max_length=100)] = {}


Checks = Annotated[list[CheckResult], Field(min_length=1, max_length=200)]


class ValidationCreate(Schema):
    """What checks found of a version, computed by the caller. `digest` is that of the package that was asked."""

    digest: Digest
    champion: Annotated[ModelRef | None, Field(description="The version it was compared with.")] = None
    dataset_version_id: Annotated[
        str | None, Field(max_length=250, description="The data, if the platform holds it; `name:3` is taken too.")
    ] = None
    data_digest: Annotated[Digest, Field(description="Of the table: the dataset version's, or the file's.")]
    rows: Annotated[int, Field(ge=1, lt=2**53)]
    target: Key
    checks: Checks
    comment: Text = ""


class Validation(Schema):
    """What checks found of a version, kept with it and signed by the platform. `passed` tells whether all of them did."""

    id: str
    model: str
    version: int
    model_version_id: str
    digest: Digest
    champion: str | None
    champion_version_id: str | None
    champion_digest: str | None
    dataset_version_id: str | None
    data_digest: Digest
    rows: int
    target: str
    passed: bool
    checks: list[CheckResult]
    comment: str
    created_at: UtcTime
    created_by: str
    platform_signature: Signature

    def __str__(self) -> str:
        against = f" against {self.champion}" if self.champion else ""
        return f"{self.model}:{self.version}{against} on {self.rows} rows\n{as_text(self.checks)}"


class StageRule(Schema):
    """What a version needs to enter a stage: the newest result of each of these checks, on its very digest, passed."""

    checks: Annotated[list[CheckName], Field(min_length=1, max_length=50)]
    independent: Annotated[
        bool, Field(description="Whether only results count that another stored than registered the version.")
    ] = False


class PolicySet(Schema):
    """What a model's versions need, by stage; what was asked before is replaced."""

    rules: Annotated[dict[Stage, StageRule], Field(max_length=6)]


class Policy(Schema):
    """What a model's versions need to enter a stage. At revision 0 nothing was ever asked for."""

    model: str
    rules: dict[Stage, StageRule]
    updated_at: UtcTime | None
    updated_by: str | None
    revision: int


def as_text(checks: Sequence[CheckResult]) -> str:
    """Return results as a table for people."""
    width = max((len(one.name) for one in checks), default=0)
    failed = sum(not one.passed for one in checks)
    lines = [f"{'passed' if one.passed else 'FAILED'}  {one.name:<{width}}  {one.reason}" for one in checks]
    said = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    return "\n".join([*lines, said])
