"""Payloads of deployments, and the revision document that a runtime lives by."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from modelops.contracts.schemas import Digest, Json, Schema, Slug, Tags, Text, UtcTime
from modelops.contracts.signing import Signature
from modelops.domains.models.schemas import ModelRef, ModelSignature, PackageFile
from modelops.domains.serving.autoscaling import MAX_REPLICAS, Autoscaling, Off

Replicas = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]


class ServingLimits(Schema):
    """What each replica may use and accept."""

    cpus: Annotated[int | None, Field(ge=1, le=4096)] = 1
    memory_mb: Annotated[int | None, Field(ge=64, le=2**24)] = None
    max_concurrency: Annotated[int, Field(ge=1, le=10_000, description="Requests at once; more get 503.")] = 1_024
    max_rows: Annotated[int, Field(ge=1, le=1_000_000, description="Rows in one request.")] = 10_000
    max_body_bytes: Annotated[int, Field(ge=1_024, le=2**30)] = 16 * 1024**2
    max_queue_rows: Annotated[int, Field(ge=1, le=2**31, description="Rows at once; more get 503.")] = 100_000
    max_queue_bytes: Annotated[int, Field(ge=1_024, le=2**40, description="Bytes of requests at once.")] = 256 * 1024**2
    request_timeout_ms: Annotated[
        int | None,
        Field(
            ge=1, le=86_400_000, description="After this a request that still waits gets 504; callers may ask for less."
        ),
    ] = 60_000
    batch_wait_ms: Annotated[
        float, Field(ge=0, le=10_000, description="How long the first request of a batch waits for company.")
    ] = 0.0
    rate_per_s: Annotated[
        float | None, Field(gt=0, le=10_000_000, description="Requests a second of one caller at one replica.")
    ] = None
    rate_burst: Annotated[
        int, Field(ge=1, le=1_000_000, description="Requests of one caller at once beyond the rate.")
    ] = 100


class VariantRole(StrEnum):
    """What a variant is for: the `champion` answers whoever no other answers, a `challenger` answers its share of the
    callers, a `shadow` is asked a copy of what others answer, and nobody sees what it says."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"


VariantName = Annotated[Slug, Field(description="Names a variant in answers, metrics and the override header.")]
HeaderName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9-]+$")]
Share = Annotated[
    float, Field(ge=0, le=100, description="In percent of the requests, or of the keys where it is sticky.")
]


class Challenger(Schema):
    """A model version that answers a share of the callers."""

    name: VariantName
    model: ModelRef
    share: Share = 0.0


class Shadow(Schema):
    """A model version that is asked a copy of a share of the requests, after those were answered."""

    name: VariantName
    model: ModelRef
    share: Share = 100.0


class TrafficPolicy(Schema):
    """How a deployment's requests are split among its model and others.

    With `sticky_header`, whoever sends the same value in it gets the same variant: variants are ranked by weighted
    rendezvous hashing of `salt` and the value, so that raising a share moves callers to that variant and no others.
    Requests without the header are split at random. A request whose `override_header` names a variant is answered by it.
    """

    challengers: Annotated[list[Challenger], Field(max_length=8)] = []
    shadows: Annotated[list[Shadow], Field(max_length=4)] = []
    sticky_header: HeaderName | None = None
    salt: Annotated[str, Field(max_length=100)] = ""
    override_header: HeaderName | None = "x-modelops-variant"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = ["champion", *(one.name for one in self.challengers), *(one.name for one in self.shadows)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two variants are called '{twice}'")
        if sum(one.share for one in self.challengers) > 100 + 1e-9:
            raise ValueError("the challengers' shares add up to more than 100 percent")
        return self


class DeploymentCreate(Schema):
    """A new deployment. With `autoscaling`, `replicas` is how many it begins with, at least 1 and within the bounds."""

    name: Slug
    model: ModelRef
    replicas: Replicas = 1
    autoscaling: Autoscaling | None = None
    limits: ServingLimits = ServingLimits()
    description: Text = ""
    tags: Tags = {}


class DeploymentUpdate(Schema):
    """What may change on a deployment; a field left out stays. A new model or limits make a new revision.

    `autoscaling` is a policy, or `"off"`: the number of replicas is fixed again, at `replicas` or as many as there are.
    """

    model: ModelRef | None = None
    replicas: Replicas | None = None
    autoscaling: Autoscaling | Off | None = None
    limits: ServingLimits | None = None
    description: Text | None = None
    tags: Tags | None = None


class DeploymentState(StrEnum):
    """`progressing` until the wanted revision is ready; `rolled_back`: the wanted one never became ready and the one
    before it serves; `failed`: there was none before it; `idle`: scaled to zero until somebody asks."""

    PROGRESSING = "progressing"
    READY = "ready"
    DEGRADED = "degraded"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    STOPPED = "stopped"
    IDLE = "idle"
    DELETING = "deleting"


class Replica(Schema):
    """A runtime process of a deployment, as observed."""

    revision: int
    index: int
    phase: str
    ready: bool
    endpoint: str | None
    pid: int | None
    restarts: int
    reason: str | None
    started_at: UtcTime | None


class RevisionState(StrEnum):
    """`pending` -> `active` -> `superseded`, or `pending` -> `failed` where it never became ready."""

    PENDING = "pending"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    FAILED = "failed"


class ReplicaLog(Schema):
    """A piece of a replica's output. Ask again from `next_offset`; `complete` when nothing will follow."""

    revision: int
    index: int
    text: str
    next_offset: int
    complete: bool


class Revision(Schema):
    """One configuration of a deployment. Immutable but for its state."""

    id: str
    number: int
    model_version_id: str
    model: str
    model_version: int
    limits: ServingLimits
    state: RevisionState
    reason: str | None
    created_at: UtcTime
    created_by: str


class Deployment(Schema):
    """A model version that is served. `active_revision` answers now; `wanted_revision` is being brought up, or is it."""

    id: str
    project_id: str
    name: str
    description: str
    tags: dict[str, str]
    state: DeploymentState
    reason: str | None
    replicas: int
    ready_replicas: int
    autoscaling: Autoscaling | None
    scaled_at: UtcTime | None
    active_revision: int | None
    wanted_revision: int
    model: str
    model_version: int
    model_version_id: str
    limits: ServingLimits
    replica_status: list[Replica]
    created_at: UtcTime
    created_by: str
    revision: int


class RollbackRequest(Schema):
    """Which revision to go back to; by default, the one that served before."""

    revision: Annotated[int | None, Field(ge=1)] = None


class Instances(Schema):
    """Rows to predict or explain: lists of values in the signature's order, or objects by feature name."""

    instances: Annotated[list[list[Json] | dict[str, Json]], Field(min_length=1)]


class Predictions(Schema):
    """Predictions, a row each. `probabilities` has a column per class of `classes`, where the model gives them."""

    predictions: list[Json]
    probabilities: list[list[float]] | None
    classes: list[Json] | None
    model: str
    version: int
    revision: int
    replica: str


class Explanations(Schema):
    """Additive attributions (SHAP values), a row each: `base_values[k] + sum(attributions[row][k])` is the model's output
    `outputs[k]` for the row, in the space that `explains` names (`probability`, `log_odds`, `raw`, …).

    `attributions` has shape (rows, outputs, features).
    """

    feature_names: list[str]
    outputs: list[str]
    base_values: list[float]
    attributions: list[list[list[float]]]
    explains: str
    method: str
    model: str
    version: int
    revision: int
    replica: str


class VariantDocument(Schema):
    """A model version as a runtime serves it. `share` is in percent; the champion's is what the challengers leave."""

    name: str
    role: VariantRole
    share: float
    model: str
    version: int
    model_version_id: str
    flavour: str
    digest: Digest
    files: list[PackageFile]
    signature: ModelSignature
    platform_signature: Signature


class RevisionDocument(Schema):
    """All that a runtime knows. It is pulled with `platform_url` and the replica's token, then kept beside the replica, so
    that the runtime also starts while the platform is away.

    `trusted_keys` (key id -> public key) verify the package, `token_keys` the callers' access tokens; `audience` is
    what a token must be for. `variant` names this revision's part in the deployment's traffic, in metrics.
    """

    deployment_id: str
    deployment: str
    tenant_id: str
    project_id: str
    revision: int
    model: str
    version: int
    model_version_id: str
    flavour: str
    digest: Digest
    files: list[PackageFile]
    signature: ModelSignature
    platform_signature: Signature
    trusted_keys: dict[str, str]
    token_keys: dict[str, str]
    audience: str
    limits: ServingLimits
    platform_url: str
    variant: str = "champion"
