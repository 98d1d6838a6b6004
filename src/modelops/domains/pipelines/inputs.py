"""What steps take: values of the document and the run, and where the outputs of other steps lie."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import (
    Binding,
    FromItem,
    FromOutput,
    FromParameter,
    FromValue,
    PipelineDocument,
    StepSpec,
)
from modelops.domains.pipelines.graph import condition_bindings
from modelops.domains.pipelines.rows import FAN_OUT
from modelops.domains.pipelines.schemas import ValueRef
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.kernel.context import Context

_Outputs = Mapping[int | None, Mapping[str, ValueRef]]
"""The outputs of a step by its members' indices; of a step that does not fan out, under None."""


@dataclass
class Inputs:
    """A step's inputs. Of `items`, the member's item is still to be read: the list's digest, and the index in it."""

    values: dict[str, Json] = field(default_factory=dict)
    references: dict[str, ValueRef | list[ValueRef]] = field(default_factory=dict)
    items: dict[str, tuple[str, int]] = field(default_factory=dict)


def resolve(
    ctx: Context, run: PipelineRunRow, document: PipelineDocument, steps: Sequence[tuple[str, int | None]]
) -> list[Inputs]:
    """Return the inputs of steps of a run (each a name, and its index as a member), in one query for all of them.

    An output of a step that did not succeed is null; of a fan-out, the list has those of its members that did.
    """
    specs = [document.steps[name] for name, _ in steps]
    outputs = _outputs(ctx, run, {need for spec in specs for need in _taken(spec)})
    return [
        _inputs(spec, index, run.parameters, document, outputs) for spec, (_, index) in zip(specs, steps, strict=True)
    ]


def each_ref(refs: ValueRef | list[ValueRef]) -> list[ValueRef]:
    """Return the references of an input: several where it takes a fan-out's outputs."""
    return refs if isinstance(refs, list) else [refs]


def deciding(document: PipelineDocument) -> dict[str, set[str]]:
    """Return the outputs, by step, that conditions and lists depend on."""
    found: dict[str, set[str]] = {}
    for spec in document.steps.values():
        bindings = [binding for _, binding in condition_bindings(spec.when)] if spec.when is not None else []
        for binding in (*bindings, spec.foreach):
            if isinstance(binding, FromOutput):
                found.setdefault(binding.step, set()).add(binding.output)
    return found


def _taken(spec: StepSpec) -> Iterable[str]:
    for binding in spec.inputs.values():
        source = spec.foreach if isinstance(binding, FromItem) else binding
        if isinstance(source, FromOutput):
            yield source.step


def _outputs(ctx: Context, run: PipelineRunRow, steps: set[str]) -> dict[str, _Outputs]:
    if not steps:
        return {}
    query = (
        select(PipelineStepRow.step, PipelineStepRow.index, PipelineStepRow.outputs)
        .where(
            PipelineStepRow.run_id == run.id,
            PipelineStepRow.step.in_(sorted(steps)),
            PipelineStepRow.kind != FAN_OUT,
        )
        .order_by(PipelineStepRow.place)
    )
    found: dict[str, dict[int | None, Mapping[str, ValueRef]]] = {step: {} for step in steps}
    for step, index, outputs in ctx.session.execute(query):
        found[step][index] = {name: ValueRef.model_validate(ref) for name, ref in outputs.items()}
    return dict(found)


def _inputs(
    spec: StepSpec,
    index: int | None,
    parameters: Mapping[str, Json],
    document: PipelineDocument,
    outputs: Mapping[str, _Outputs],
) -> Inputs:
    found = Inputs()
    for name, binding in spec.inputs.items():
        if isinstance(binding, FromItem) and spec.foreach is not None and index is not None:
            _put_item(found, name, spec.foreach, index, parameters, document, outputs)
        else:
            _put(found, name, binding, parameters, document, outputs)
    return found


def _put(
    found: Inputs,
    name: str,
    binding: Binding,
    parameters: Mapping[str, Json],
    document: PipelineDocument,
    outputs: Mapping[str, _Outputs],
) -> None:
    if isinstance(binding, FromValue):
        found.values[name] = binding.value
    elif isinstance(binding, FromParameter):
        found.values[name] = parameters.get(binding.parameter)
    elif isinstance(binding, FromOutput):
        given = outputs[binding.step]
        if document.steps[binding.step].foreach is not None:
            members = [given[index] for index in given if index is not None]
            found.references[name] = [refs[binding.output] for refs in members if binding.output in refs]
        elif binding.output in given.get(None, {}):
            found.references[name] = given[None][binding.output]
        else:
            found.values[name] = None


def _put_item(
    found: Inputs,
    name: str,
    source: Binding,
    index: int,
    parameters: Mapping[str, Json],
    document: PipelineDocument,
    outputs: Mapping[str, _Outputs],
) -> None:
    if isinstance(source, FromOutput):
        given = outputs[source.step]
        fanned_out = document.steps[source.step].foreach is not None
        ref = given.get(index if fanned_out else None, {}).get(source.output)
        if ref is None:
            found.values[name] = None
        elif fanned_out:
            found.references[name] = ref
        elif ref.digest is not None:
            found.items[name] = (ref.digest, index)
        return
    items = source.value if isinstance(source, FromValue) else None
    if isinstance(source, FromParameter):
        items = parameters.get(source.parameter)
    found.values[name] = items[index] if isinstance(items, list) else None
