"""Payloads of deployments, and the revision document that a runtime lives by."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from modelops.contracts.schemas import Digest, Json, Schema, Slug, Tags, Text, UtcTime
from modelops.contracts.signing import Signature
from modelops.domains.models.schemas import ModelRef, ModelSignature, PackageFile
from modelops.domains.serving.courses.strategies import AllAtOnce, RolloutStrategy
from modelops.domains.serving.policies.autoscaling import MAX_REPLICAS, Off
from modelops.domains.serving.policies.clusterscaling import ScalingPolicy

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
    grpc: Annotated[bool, Field(description="A second port, for the Open Inference Protocol over gRPC.")] = False

    @property
    def of_processes(self) -> tuple[int, int | None, bool]:
        """What a running process cannot change of itself."""
        return self.cpus or 1, self.memory_mb, self.grpc

    log_sample: Annotated[float, Field(ge=0, le=1, description="The share of requests that are logged.")] = 0.0
    log_inputs: Annotated[bool, Field(description="Log what was sent: it may be personal data.")] = True
    log_outputs: Annotated[bool, Field(description="Log predictions and probabilities.")] = True
    log_file_mb: Annotated[int, Field(ge=1, le=256, description="How large a file of logged predictions gets.")] = 16
    log_retention_days: Annotated[int, Field(ge=1, le=3_650, description="How long logged predictions are kept.")] = 30


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
    rendezvous hashing of `salt` and the value, so that raising a share takes no caller from a challenger but to that variant.
    Requests without the header are split at random. A request whose `override_header` names a variant is answered by it.
    """

    challengers: Annotated[list[Challenger], Field(max_length=8)] = []
    shadows: Annotated[list[Shadow], Field(max_length=4)] = []
    sticky_header: HeaderName | None = None
    salt: Annotated[str, Field(max_length=100)] = ""
    override_header: HeaderName | None = "x-modelops-variant"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = ["champion", "candidate"]  # the platform's own: a candidate is what a canary brings up
        names += [*(one.name for one in self.challengers), *(one.name for one in self.shadows)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two variants are called '{twice}'")
        if sum(one.share for one in self.challengers) > 100 + 1e-9:
            raise ValueError("the challengers' shares add up to more than 100 percent")
        headers = {(self.sticky_header or "").lower(), (self.override_header or "").lower()}
        if reserved := headers & _RESERVED_HEADERS:
            raise ValueError(f"the header '{min(reserved)}' cannot decide who answers: it is not passed on to models")
        return self


_RESERVED_HEADERS = frozenset(
    {"authorization", "connection", "content-length", "content-type", "cookie", "host", "proxy-authorization"}
    | {"set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-api-key"}
)


class Target(StrEnum):
    """Where replicas run: processes of the platform's machine, or pods of its cluster."""

    LOCAL = "local"
    KUBERNETES = "kubernetes"


class DeploymentCreate(Schema):
    """A new deployment. With `autoscaling`, `replicas` is how many it begins with, at least 1 and within the bounds.

    Only deployments whose target is a cluster can be scaled by it."""

    name: Slug
    model: ModelRef
    replicas: Replicas = 1
    autoscaling: ScalingPolicy | None = None
    limits: ServingLimits = ServingLimits()
    traffic: TrafficPolicy = TrafficPolicy()
    target: Annotated[
        Target | None, Field(description="Where its replicas run; none means as the platform is set.")
    ] = None
    strategy: Annotated[RolloutStrategy, Field(description="How changes come about from now on.")] = AllAtOnce()
    description: Text = ""
    tags: Tags = {}


class DeploymentUpdate(Schema):
    """What may change on a deployment; a field left out stays. A new model, limits or traffic policy make a new revision,
    which comes by the strategy; another `strategy` holds from this change on.

    `autoscaling` is a policy, or `"off"`: the number of replicas is fixed again, at `replicas` or as many as there are.
    """

    model: ModelRef | None = None
    replicas: Replicas | None = None
    autoscaling: ScalingPolicy | Off | None = None
    limits: ServingLimits | None = None
    traffic: TrafficPolicy | None = None
    strategy: RolloutStrategy | None = None
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
    """A runtime process of a deployment, as observed.

    `revision` is the one that it was started for; `serving` the one that it says it answers with, where it was asked. What
    it was told and what it serves are digests of revision documents; `refusal` is why it does not serve what it was told, and
    `lost` counts how often its process ended while the revision that is brought up was on it.
    """

    revision: int
    index: int
    phase: str
    ready: bool
    endpoint: str | None
    grpc_endpoint: Annotated[str | None, Field(description="`host:port`, where the limits ask for gRPC.")] = None
    pid: int | None
    restarts: int
    reason: str | None
    started_at: UtcTime | None
    # Observations that were written before replicas could change in place lack these.
    serving: int | None = None
    serves: str | None = None
    told: str | None = None
    refusal: str | None = None
    lost: int = 0


class RevisionState(StrEnum):
    """`pending` -> `active` -> `superseded`, or `pending` -> `failed` where it never became ready, or `aborted` where its
    rollout was."""

    PENDING = "pending"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    ABORTED = "aborted"


class RevisionVariant(Schema):
    """A model version of a revision, and its part in the traffic. `share` is in percent; the champion's is what the
    challengers leave."""

    name: str
    role: VariantRole
    share: float
    model: str
    model_version: int
    model_version_id: str


class ReplicaLog(Schema):
    """A piece of a replica's output. Ask again from `next_offset`; `complete` when nothing will follow."""

    revision: int
    index: int
    text: str
    next_offset: int
    complete: bool


class Revision(Schema):
    """One configuration of a deployment. Immutable but for its state. It lives in the processes that were started for the
    revision `home`, or for itself."""

    id: str
    number: int
    home: int
    model_version_id: str
    model: str
    model_version: int
    limits: ServingLimits
    traffic: TrafficPolicy
    variants: list[RevisionVariant]
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
    autoscaling: ScalingPolicy | None
    scaled_at: UtcTime | None
    active_revision: int | None
    wanted_revision: int
    model: str
    model_version: int
    model_version_id: str
    limits: ServingLimits
    traffic: TrafficPolicy
    target: Target
    variants: list[RevisionVariant]
    strategy: RolloutStrategy
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


class ExplainMethod(StrEnum):
    """How predictions are explained. `tree` and `linear` are exact, for models of such kinds; `exact` asks any model for
    all sets of features, `permutation` for some orders of them."""

    TREE = "tree"
    LINEAR = "linear"
    EXACT = "exact"
    PERMUTATION = "permutation"


class ExplainRequest(Instances):
    """Rows to explain, and how: by default, by the cheapest method that fits the model."""

    method: ExplainMethod | None = None
    max_evaluations: Annotated[
        int | None,
        Field(ge=1, le=2**20, description="For how many rows the model may be asked, to explain one."),
    ] = None


class Predictions(Schema):
    """Predictions, a row each. `probabilities` has a column per class of `classes`, where the model gives them."""

    predictions: list[Json]
    probabilities: list[list[float]] | None
    classes: list[Json] | None
    model: str
    version: int
    variant: str = "champion"
    revision: int
    replica: str


class Explanations(Schema):
    """Additive attributions (SHAP values), a row each: `base_values[k] + sum(attributions[row][k])` is the model's output
    `outputs[k]` for the row, in the space that `explains` names (`probability`, `log_odds`, `raw`, …).

    `attributions` has shape (rows, outputs, features), and so have `standard_errors`, of estimates; null where the values
    are exact. `evaluations` is for how many rows the model is asked, to explain one.
    """

    feature_names: list[str]
    outputs: list[str]
    base_values: list[float]
    attributions: list[list[list[float]]]
    standard_errors: list[list[list[float]]] | None
    explains: str
    method: ExplainMethod
    evaluations: int
    model: str
    version: int
    variant: str = "champion"
    revision: int
    replica: str


class LogFormat(StrEnum):
    """How logged predictions are handed out."""

    PARQUET = "parquet"
    ARROW = "arrow"


class LogFacts(Schema):
    """What a file of logged predictions tells of itself."""

    deployment_id: str
    revision: Annotated[int, Field(ge=1, lt=2**31)]
    replica: str
    variant: Annotated[str, Field(min_length=1, max_length=63)]
    model: Annotated[str, Field(max_length=200)]
    version: Annotated[int, Field(ge=1, lt=2**31)]
    model_version_id: Annotated[str, Field(max_length=40)]


class PredictionLogFile(Schema):
    """A file of logged predictions: those of one variant at one replica, of requests that came from `began_at` to
    `ended_at`."""

    id: str
    deployment_id: str
    source: str
    sequence: int
    revision: int
    variant: str
    model: str
    version: int
    model_version_id: str
    digest: Digest
    size: int
    rows: int
    began_at: UtcTime
    ended_at: UtcTime
    expires_at: UtcTime
    created_at: UtcTime


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


class RoutingDocument(Schema):
    """How a runtime tells whose a request is; see `TrafficPolicy`."""

    sticky_header: HeaderName | None
    salt: str
    override_header: HeaderName | None


class RevisionDocument(Schema):
    """All that a runtime knows. It is pulled with `platform_url` and the replica's token, or sent to the replica, and kept
    beside it, so that the runtime also starts while the platform is away.

    `variants` has the champion first. `trusted_keys` (key id -> public key) verify the packages, `token_keys` the callers'
    access tokens; `audience` is what a token must be for.
    """

    deployment_id: str
    deployment: str
    tenant_id: str
    project_id: str
    revision: int
    variants: Annotated[list[VariantDocument], Field(min_length=1)]
    routing: RoutingDocument
    trusted_keys: dict[str, str]
    token_keys: dict[str, str]
    audience: str
    limits: ServingLimits
    platform_url: str

    @property
    def champion(self) -> VariantDocument:
        """Return the variant that answers whoever no other answers."""
        return self.variants[0]

    @model_validator(mode="before")
    @classmethod
    def _from_earlier(cls, found: Any) -> Any:
        """Take a document that an earlier version wrote, for one model: its replicas may start again after an update."""
        if not isinstance(found, dict) or "variants" in found or "variant" not in found:
            return found
        kept = {name: found[name] for name in found if name not in _OF_THE_MODEL and name != "variant"}
        model = {name: found[name] for name in _OF_THE_MODEL if name in found}
        champion = {"name": found["variant"], "role": VariantRole.CHAMPION, "share": 100.0, **model}
        routing = {"sticky_header": None, "salt": "", "override_header": None}
        return {**kept, "variants": [champion], "routing": routing}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if [one.role is VariantRole.CHAMPION for one in self.variants] != [True, *([False] * (len(self.variants) - 1))]:
            raise ValueError("the first variant must be the champion, and the only one")
        names = [one.name for one in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have the same name: {', '.join(names)}")
        return self


_OF_THE_MODEL = frozenset(VariantDocument.model_fields) - {"name", "role", "share"}


class ServedVariant(Schema):
    """A variant that a replica serves."""

    name: str
    role: VariantRole
    share: float
    model: str
    version: int


class ReplicaRevision(Schema):
    """What a replica serves, in answer to `GET /revision`.

    Of a replica with several processes, `serving` and `variants` are those of the process that is furthest behind.

    Attributes:
        wanted: The revision that it was last sent; `serving` once all of it is served.
        loading: Whether it is on its way to what it was last sent; shares may change without a new number.
        failure: Why what it was last sent cannot be served; what served before goes on then.
    """

    serving: int
    wanted: int
    loading: bool
    failure: str | None
    variants: list[ServedVariant]


class VariantStats(Schema):
    """What a variant answered since its replica began, in all revisions.

    `latencies` and `waits` are counts over `LATENCY_BOUNDS_S` and above; the sums are in seconds. `errors` are answers that
    failed on the model's or the platform's side, `rejected` those refused because too much waited, and
    `shadow_dropped` the copies of requests that a shadow was not asked, for the same reason.
    """

    requests: int
    errors: int
    rejected: int
    shadow_dropped: int
    latencies: list[int]
    latency_sum_s: float
    waits: list[int]
    wait_sum_s: float


class ProcessStats(Schema):
    """What one of a replica's processes has in hand: requests that models work on, and those that wait."""

    pid: int
    inflight: int
    queue_depth: int


class ReplicaStats(Schema):
    """The answer to `GET /stats`: rates come from the differences of two. `variants` are by name.

    `bounds_s` are those of all histograms here, which have one count more; `explanations` were answered, by any variant.
    """

    bounds_s: list[float]
    explanations: int
    processes: list[ProcessStats]
    variants: dict[str, VariantStats]
