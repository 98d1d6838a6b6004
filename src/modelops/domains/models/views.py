"""Payloads of what is read together: versions side by side, where a version comes from and goes, its model card."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelops.contracts.schemas import Json, Schema, UtcTime


class Compared(Schema):
    """One fact of each version, in the order in which they were asked for; null where a version has none."""

    name: str
    values: list[Json]
    same: bool


class VersionComparison(Schema):
    """Versions side by side. `metrics` and `parameters` are a version's own, and of its run what it has none of its own;
    `requirements` are packages, `checks` the newest result of each."""

    versions: list[str]
    ids: list[str]
    facts: list[Compared]
    metrics: list[Compared]
    parameters: list[Compared]
    inputs: list[Compared]
    outputs: list[Compared]
    requirements: list[Compared]
    checks: list[Compared]


class LineageKind(StrEnum):
    """What a node of a lineage is."""

    VERSION = "version"
    RUN = "run"
    EXPERIMENT = "experiment"
    JOB = "job"
    DATASET = "dataset"
    CODE = "code"
    DEPLOYMENT = "deployment"


class LineageNode(Schema):
    """Something that a version comes from or went into. `relation` is to the node above it, such as `trained on`."""

    kind: LineageKind
    id: str
    name: str
    relation: str
    detail: str
    children: list["LineageNode"]


class Lineage(Schema):
    """Where a version comes from (`upstream`), and what came of it (`downstream`)."""

    id: str
    model: str
    version: int
    upstream: list[LineageNode]
    downstream: list[LineageNode]


class Section(StrEnum):
    """What people write on a card; everything else on it is known."""

    DESCRIPTION = "description"
    INTENDED_USE = "intended_use"
    OUT_OF_SCOPE = "out_of_scope"
    LIMITATIONS = "limitations"
    ETHICS = "ethics"
    TRAINING_DATA = "training_data"
    TRAINING_PROCEDURE = "training_procedure"
    EVALUATION = "evaluation"
    ENVIRONMENTAL_IMPACT = "environmental_impact"
    CITATION = "citation"
    CONTACT = "contact"


SectionText = Annotated[str, StringConstraints(max_length=50_000, pattern=r"^[^\x00]*$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Words = Annotated[list[Word], Field(max_length=100)]


class CardSet(Schema):
    """What people say of a version; what was said before is replaced. Texts are Markdown; `license` is a licence's
    identifier, such as `apache-2.0`, and `pipeline_tag` a task of the Hugging Face Hub's."""

    sections: Annotated[dict[Section, SectionText], Field(max_length=20)] = {}
    license: Word | None = None
    tags: Words = []
    language: Words = []
    base_model: Word | None = None
    pipeline_tag: Word | None = None


class ModelCard(Schema):
    """A version's model card. `metadata` is its front matter, and `markdown` the whole file, `README.md` by custom.

    Where nobody wrote on this version, what was written on the newest one before it stands, and `written_for` tells on
    which. At revision 0 nothing was written on this one.
    """

    model: str
    version: int
    sections: dict[Section, str]
    license: str | None
    tags: list[str]
    language: list[str]
    base_model: str | None
    pipeline_tag: str | None
    written_for: int | None
    metadata: dict[str, Json]
    markdown: str
    updated_at: UtcTime | None
    updated_by: str | None
    revision: int
