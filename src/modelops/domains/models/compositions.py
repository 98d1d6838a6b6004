"""Versions that are made of others: ensembles and chains. What is asked for, and what their package says of itself.

A package of either holds its members' packages under `members/0/`, `members/1/` and so on, that of a stack's last model
under `final/`, and `ensemble.json` beside them.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Digest, Json, Schema, Tags, Text
from modelops.domains.models.schemas import (
    Feature,
    FeatureType,
    FlavourName,
    ModelName,
    ModelRef,
    ModelSignature,
    PackageFile,
    Stage,
)

DOCUMENT = "ensemble.json"
FINAL = "final/"
ENSEMBLE, CHAIN = "ensemble", "chain"
COMPOSED = frozenset({ENSEMBLE, CHAIN})
"""The flavours of versions that are made of others."""

MOST_MEMBERS = 50
MOST_LAYERS = 3
"""How deep ensembles and chains may lie in one another, the outermost counted."""

Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class Method(StrEnum):
    """How an ensemble's members become one answer.

    `average`: the weighted mean of their probabilities, or of their values where they give none. `vote`: the label with
    the most weight. `stack`: a last model is asked, whose features are what the members say (Wolpert 1992).
    """

    AVERAGE = "average"
    VOTE = "vote"
    STACK = "stack"


class PassOn(StrEnum):
    """What a step of a chain that has probabilities gives to the next."""

    PREDICTIONS = "predictions"
    PROBABILITIES = "probabilities"


class Member(Schema):
    """A part of an ensemble, or a step of a chain. `version_id` is None for a model that was in memory."""

    flavour: FlavourName
    label: Annotated[str, Field(min_length=1, max_length=300, description="What errors call it.")]
    signature: Annotated[ModelSignature | None, Field(description="None where it is not known.")] = None
    weight: Weight = 1.0
    name: ModelName | None = None
    version: Annotated[int | None, Field(ge=1)] = None
    version_id: Annotated[str | None, Field(max_length=40)] = None
    digest: Digest | None = None


class Composition(Schema):
    """The content of `ensemble.json`."""

    format: Literal[1] = 1
    kind: Literal["ensemble", "chain"]
    method: Annotated[Method | None, Field(description="Of an ensemble.")] = None
    pass_on: Annotated[PassOn, Field(description="Of a chain.")] = PassOn.PREDICTIONS
    members: Annotated[list[Member], Field(min_length=1, max_length=MOST_MEMBERS)]
    final: Annotated[Member | None, Field(description="The last model of a stack.")] = None
    classes: Annotated[
        list[Json] | None,
        Field(description="Of a stack: the labels whose probabilities are its last model's features, in that order."),
    ] = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.kind == ENSEMBLE) != (self.method is not None):
            raise ValueError("an ensemble has a method, and a chain has none")
        if (self.method is Method.STACK) != (self.final is not None):
            raise ValueError("a stack has a last model, and nothing else has")
        return self

    @property
    def parts(self) -> dict[str, Member]:
        """The members, and a stack's last model, by the folder of the package that they lie in."""
        found = {f"members/{place}/": member for place, member in enumerate(self.members)}
        return found | ({FINAL: self.final} if self.final is not None else {})


class EnsembleCreate(Schema):
    """A new version that averages, or lets vote, versions that are registered."""

    name: ModelName
    members: Annotated[list[ModelRef], Field(min_length=2, max_length=MOST_MEMBERS)]
    method: Annotated[Literal[Method.AVERAGE, Method.VOTE], Field(description="A stack is fitted: from Python.")] = (
        Method.AVERAGE
    )
    weights: Annotated[
        list[Weight] | None, Field(max_length=MOST_MEMBERS, description="One a member; all alike where left out.")
    ] = None
    description: Text = ""
    tags: Tags = {}
    stage: Stage = Stage.DEVELOPMENT


class ChainCreate(Schema):
    """A new version whose steps are registered versions; what one predicts is what the next one takes."""

    name: ModelName
    steps: Annotated[list[ModelRef], Field(min_length=2, max_length=MOST_MEMBERS)]
    pass_on: PassOn = PassOn.PREDICTIONS
    description: Text = ""
    tags: Tags = {}
    stage: Stage = Stage.DEVELOPMENT


def parse_composition(content: bytes) -> Composition:
    """Read an `ensemble.json`.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return Composition.model_validate_json(content)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise InvalidInput(
            f"The file '{DOCUMENT}' does not say what the model is made of: {where}: {first['msg']}."
        ) from wrong


def files_by_part(files: Sequence[PackageFile], parts: Mapping[str, Member]) -> dict[str, list[PackageFile]]:
    """Return a package's files by the part they belong to, each as that part's own package has it; `""` has the rest.

    Raises:
        InvalidInput: a part has no files.
    """
    found: dict[str, list[PackageFile]] = {"": [], **{prefix: [] for prefix in parts}}
    for file in files:
        prefix = next((prefix for prefix in parts if file.path.startswith(prefix)), "")
        found[prefix].append(file.model_copy(update={"path": file.path.removeprefix(prefix)}))
    empty = next((prefix for prefix in parts if not found[prefix]), None)
    if empty is not None:
        raise InvalidInput(f"The package has no files of its part '{empty}', which '{DOCUMENT}' names.")
    return found


def check_weights(weights: Sequence[float] | None, members: int) -> list[float]:
    """Return a weight for each member.

    Raises:
        InvalidInput: there is another number of them.
    """
    if weights is None:
        return [1.0] * members
    if len(weights) != members:
        raise InvalidInput(f"There are {members} members and {len(weights)} weights.", hint="Give one a member.")
    return list(weights)


def agreed_inputs(members: Sequence[tuple[str, ModelSignature]]) -> list[Feature]:
    """Return the inputs of an ensemble: those of its first member, in its order; required where any member requires it.

    Raises:
        InvalidInput: the members take different features; the message names the first that differs.
    """
    first, wanted = members[0][0], {feature.name: feature for feature in members[0][1].inputs}
    required = {name for name, feature in wanted.items() if feature.required}
    for label, signature in members[1:]:
        own = {feature.name: feature for feature in signature.inputs}
        for name in (*wanted, *own):
            if name not in own or name not in wanted:
                has, lacks = (first, label) if name in wanted else (label, first)
                raise InvalidInput(
                    f"The members take different features: '{name}' is one of {has}'s, and not of {lacks}'s.",
                    hint="Members of an ensemble take the same features, in any order.",
                )
            if own[name].type is not wanted[name].type:
                raise InvalidInput(
                    f"The members differ in the feature '{name}': {first} takes it as {wanted[name].type}, and {label} "
                    f"as {own[name].type}.",
                    hint="Register one of them again with a sample whose column is of the other's type.",
                )
        required |= {name for name, feature in own.items() if feature.required}
    return [feature.model_copy(update={"required": name in required}) for name, feature in wanted.items()]


def agreed_outputs(method: Method, outputs: Sequence[Sequence[Feature]]) -> list[Feature]:
    """Return the outputs of an ensemble, as far as its members' tell them."""
    first = list(outputs[0])
    if all(list(others) == first for others in outputs):
        return first
    numbers = {FeatureType.NUMBER, FeatureType.INTEGER}
    single = all(len(others) == 1 and others[0].type in numbers for others in outputs)
    return [Feature(name="prediction")] if method is Method.AVERAGE and single else []


def check_steps(steps: Sequence[tuple[str, ModelSignature]], pass_on: PassOn) -> None:
    """Refuse a chain in which a step gives another number of columns than the next one takes, as far as that is known.

    Raises:
        InvalidInput: names both steps.
    """
    if pass_on is PassOn.PROBABILITIES:
        return  # how many classes there are is known where the model is loaded
    for (label, signature), (after, taking) in pairwise(steps):
        if signature.outputs and len(signature.outputs) != len(taking.inputs):
            raise InvalidInput(
                f"The step {label} gives {len(signature.outputs)} columns, and the step {after} takes "
                f"{len(taking.inputs)}.",
                hint="What a step predicts is what the next one takes.",
            )
