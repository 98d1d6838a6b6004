"""Payloads of the registry."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Digest, Json, Key, Schema, Tags, Text, UtcTime
from modelops.contracts.signing import Signature
from modelops.domains.experiments.schemas import Parameter

ModelRef = Annotated[
    str,
    Field(
        min_length=1,
        max_length=250,
        description="A model version: `name` (its latest), `name:3`, `name@alias`, or the id of a version, `mver_…`.",
    ),
]
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^/:@\x00-\x1f\x7f]*[^/:@\x00-\x1f\x7f\s][^/:@\x00-\x1f\x7f]*$",
        description="The name of a model, in any script; `/`, `:` and `@` stand in references and not in names.",
    ),
]
Alias = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_-]*$")]
FlavourName = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[a-z0-9_-]+$")]


class Stage(StrEnum):
    """Where a version stands in its life."""

    DEVELOPMENT = "Development"
    REGISTRATION = "Registration"
    STAGING = "Staging"
    PRODUCTION = "Production"
    RETRAINING = "Retraining"
    RETIREMENT = "Retirement"


Source = Annotated[str | None, Field(max_length=2_000, description="Where its files came from, such as a URI.")]
RunLink = Annotated[str | None, Field(max_length=2_000, description="A page about the run that made it.")]
LoggedModelId = Annotated[str | None, Field(max_length=40, description="The logged model it was registered from.")]


class FeatureType(StrEnum):
    """The type of an input or output column, in JSON's terms."""

    NUMBER = "number"
    INTEGER = "integer"
    STRING = "string"
    BOOLEAN = "boolean"


class Feature(Schema):
    """An input or output column, in the model's order. A feature that is not `required` may be null (missing)."""

    name: Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00]+$")]
    type: FeatureType = FeatureType.NUMBER
    required: bool = True


class ModelSignature(Schema):
    """What a model takes and gives: its input columns in order, and its outputs."""

    inputs: Annotated[list[Feature], Field(max_length=10_000, description="None where they are not known.")]
    outputs: Annotated[list[Feature], Field(max_length=10_000)] = []


class PackageFile(Schema):
    """A file of a model's package: an artifact uploaded before, under a relative path."""

    path: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*$")]
    digest: Digest
    size: Annotated[int, Field(ge=0)]


class ModelCreate(Schema):
    """A new model, still without versions."""

    name: ModelName
    description: Text = ""
    tags: Tags = {}


class ModelUpdate(Schema):
    """What may change on a model; a field left out stays."""

    description: Text | None = None
    tags: Tags | None = None


class ModelRename(Schema):
    """Another name for a model; its versions get it too, and are signed anew."""

    name: ModelName


class Model(Schema):
    """A named sequence of immutable versions, with aliases that point at some."""

    id: str
    project_id: str
    name: str
    description: str
    tags: dict[str, str]
    latest_version: int | None
    aliases: dict[str, int]
    created_at: UtcTime
    created_by: str
    updated_at: UtcTime | None
    revision: int


class ModelScan(Schema):
    """What the registry found in a version's files, without running any of it, before it accepted them."""

    imports: Annotated[list[str], Field(description="What loading them imports, as `module:name`.")]
    code: Annotated[list[str], Field(description="Where they bring Python code of their own.")]
    unsafe: Annotated[
        list[str], Field(description="What is outside of the rules, and was accepted on somebody's word.")
    ]
    accepted_by: Annotated[str | None, Field(description="Who gave that word.")]


class CompiledForm(StrEnum):
    """How a version is asked where it is served; in float32 only a model that itself counts in it."""

    ONNX = "onnx-float64"
    ONNX_SINGLE = "onnx-float32"
    LINEAR = "linear"
    TREES = "trees"
    PLAIN = "plain"


GRAPHS = frozenset({CompiledForm.ONNX, CompiledForm.ONNX_SINGLE})
"""The forms that have a graph in the package."""


class RefusedForm(Schema):
    """A form that was tried, and why it was not taken."""

    form: CompiledForm
    why: str


class ServingSpeed(Schema):
    """How long a batch took, in microseconds, on the machine that compiled the model."""

    rows: int
    plain_us: float
    compiled_us: float


class ServingForm(Schema):
    """What runs where a version is served, and why. It lies in the package, so the version's signature covers it; a
    runtime holds it to the sample again before it believes it."""

    runs: CompiledForm
    why: Annotated[str, Field(max_length=2_000)]
    refused: Annotated[list[RefusedForm], Field(max_length=10)] = []
    rows_compared: Annotated[int, Field(ge=0, description="On how many rows it said what the model itself says.")] = 0
    speed: Annotated[list[ServingSpeed], Field(max_length=20)] = []
    libraries: Annotated[dict[str, str], Field(max_length=20, description="What compiled it, by version.")] = {}


class VersionCreate(Schema):
    """A new version of a model; the model is made if it does not exist. The package's files were uploaded before."""

    name: ModelName
    flavour: FlavourName
    files: Annotated[list[PackageFile], Field(min_length=1, max_length=1_000)]
    signature: ModelSignature
    run_id: Annotated[str | None, Field(max_length=40)] = None
    dataset_version_id: Annotated[
        str | None, Field(max_length=250, description="Its id; `name:3` is taken too, and kept as the id.")
    ] = None
    parent_version_id: Annotated[
        ModelRef | None, Field(description="The version that it was made from, such as by further training.")
    ] = None
    code_digest: Annotated[Digest | None, Field(description="Of the training code.")] = None
    requirements: Annotated[list[Text], Field(max_length=1_000, description="Pinned Python packages.")] = []
    metrics: Annotated[dict[Key, float], Field(max_length=1_000)] = {}
    parameters: Annotated[dict[Key, Parameter], Field(max_length=2_000)] = {}
    tags: Tags = {}
    description: Text = ""
    stage: Stage = Stage.DEVELOPMENT
    source: Source = None
    run_link: RunLink = None
    logged_model_id: LoggedModelId = None
    runs_code: Annotated[
        bool, Field(description="The files may bring Python code of their own, which loading and predicting run.")
    ] = False
    allow_unsafe: Annotated[
        bool, Field(description="Take what the scan refuses. Needs the permission `models.unsafe`, and is recorded.")
    ] = False


class VersionUpdate(Schema):
    """What may change on a version; a field left out stays. What was registered never does."""

    description: Text | None = None
    tags: Tags | None = None


class ModelVersion(Schema):
    """An immutable version. `digest` is of the canonical list of its files, and `platform_signature` is over its
    statement (name, version, flavour, digest, files, signature): what a loader verifies first."""

    id: str
    project_id: str
    model_id: str
    name: str
    version: int
    flavour: str
    stage: Stage
    digest: Digest
    files: list[PackageFile]
    size: int
    signature: ModelSignature
    platform_signature: Signature
    run_id: str | None
    job_id: str | None
    dataset_version_id: str | None
    parent_version_id: str | None
    code_digest: str | None
    requirements: list[str]
    metrics: dict[str, float]
    parameters: dict[str, Json]
    tags: dict[str, str]
    aliases: list[str]
    description: str
    source: str | None
    run_link: str | None
    logged_model_id: str | None
    claimed_run: Annotated[str | None, Field(description="The run it is said to come from, which is not kept here.")]
    undeployable: Annotated[str | None, Field(description="Why it cannot be deployed, where it cannot.")]
    created_at: UtcTime
    created_by: str
    updated_at: UtcTime | None
    revision: int
    runs_code: Annotated[bool, Field(description="Loading or predicting runs Python code that the files bring.")]
    scan: Annotated[ModelScan | None, Field(description="None for versions from before files were scanned.")]
    serving: Annotated[
        ServingForm | None, Field(description="None where it was not compiled at registration; then its runtime does.")
    ] = None


class StageChange(Schema):
    """A request to move a version to a stage. `version` is needed where the path names only the model."""

    stage: Stage
    version: Annotated[int | None, Field(ge=1)] = None
    comment: Text = ""


class StageRecord(Schema):
    """One move in a version's history."""

    version: int
    from_stage: Stage
    to_stage: Stage
    comment: str
    approval_id: str | None
    changed_at: UtcTime
    changed_by: str


class AliasSet(Schema):
    """Points an alias at a version."""

    version: Annotated[int, Field(ge=1)]


class ApprovalState(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class ApprovalCreate(Schema):
    """Asks for a version to be approved for a stage."""

    stage: Stage = Stage.PRODUCTION
    comment: Text = ""


class ApprovalDecision(Schema):
    """The answer to a request; who asked cannot give it."""

    approve: bool
    comment: Text = ""


class Approval(Schema):
    """A request for approval and its answer, bound to the version's digest and signed by the platform."""

    id: str
    model: str
    version: int
    digest: Digest
    stage: Stage
    state: ApprovalState
    requested_by: str
    requested_at: UtcTime
    request_comment: str
    decided_by: str | None
    decided_at: UtcTime | None
    decision_comment: str
    platform_signature: Signature | None


class ModelMetrics(Schema):
    """The metrics that versions were registered with, for comparison."""

    name: str
    version: int
    stage: Stage
    metrics: dict[str, float]


class Verification(Schema):
    """What was checked of a version: its signature, and each stored file against its digest."""

    version_id: str
    digest: Digest
    signed_by: str
    files_checked: int
    bytes_checked: int


class SignedBundle(Schema):
    """A version's signature in the OpenSSF model-signing format, for `model_signing verify key` on the downloaded files."""

    bundle: Annotated[dict[str, Json], Field(description="What belongs in the file `model.sig`: a Sigstore bundle.")]
    public_key: Annotated[str, Field(description="The platform's key, PEM.")]
    signed_by: Annotated[str, Field(description="The SHA-256 of that PEM, in hex.")]


class BundleCheck(Schema):
    """A signature in the OpenSSF model-signing format, by whoever holds the key, to be checked against a version."""

    bundle: dict[str, Json]
    public_key: Annotated[str, Field(max_length=10_000, description="The key to believe, PEM: P-256, P-384 or P-521.")]


class BundleVerification(Schema):
    """A bundle that is the key's signature over exactly the version's files."""

    version_id: str
    digest: Digest
    signed_by: str
    files_checked: int
