"""What is wrong with a document, all at once and with the place of each: what can be refused is refused before a run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar

from pydantic import ValidationError

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import (
    Binding,
    Comparison,
    Condition,
    FromItem,
    FromOutput,
    FromParameter,
    FromValue,
    ParameterType,
    PipelineDocument,
    StepSpec,
    ValueType,
)
from modelops.domains.pipelines.graph import comparisons, condition_bindings, cycle_of, step_bindings
from modelops.domains.pipelines.parameters import flaw_of_spec

MOST_FLAWS = 100
"""So many are told at once."""

_MOST_LIKE = 500
_WORKS = ("run", "job", "approval", "notify")
_ORDERS = frozenset({"<", "<=", ">", ">="})


@dataclass(frozen=True)
class Flaw:
    """Something that is wrong: at which place of the document (`steps.fit.inputs.x`), a stable code, what, and what to do.

    `line` is that of the file, where it was read from one.
    """

    place: str
    code: str
    detail: str
    hint: str = ""
    line: int | None = None


class InvalidPipeline(InvalidInput):
    """A pipeline's document has flaws; `extra["flaws"]` lists them all, each with `place`, `code`, `detail` and `hint`."""

    code: ClassVar[str] = "invalid_pipeline"
    title: ClassVar[str] = "The pipeline is not valid"

    @classmethod
    def of(cls, flaws: Iterable[Flaw]) -> "InvalidPipeline":
        """Return the error that tells these flaws."""
        found = list(flaws)
        told = "; ".join(f"{_said_place(flaw)}: {flaw.detail}" for flaw in found[:10])
        more = f"; and {len(found) - 10} more" if len(found) > 10 else ""
        hints = list(dict.fromkeys(flaw.hint for flaw in found if flaw.hint))
        return cls(f"{told}{more}", hint=" ".join(hints[:3]), extra={"flaws": [_told(flaw) for flaw in found]})


def _told(flaw: Flaw) -> dict[str, Any]:
    return {name: value for name, value in asdict(flaw).items() if value is not None}


def _said_place(flaw: Flaw) -> str:
    line = "" if flaw.line is None else f"line {flaw.line}"
    return f"{flaw.place} ({line})" if flaw.place and line else flaw.place or line or "the document"


def read_document(raw: Any) -> PipelineDocument:
    """Return the document that plain data (of JSON or YAML) tells, checked.

    Raises:
        InvalidPipeline: its form or its meaning is wrong.
    """
    document = parse_document(raw)
    check_document(document)
    return document


def parse_document(raw: Any) -> PipelineDocument:
    """Return the document that plain data tells, whose meaning is not checked yet.

    Raises:
        InvalidPipeline: its form is wrong.
    """
    try:
        return PipelineDocument.model_validate(raw)
    except ValidationError as wrong:
        raise InvalidPipeline.of(islice(_flaws_of_form(wrong), MOST_FLAWS)) from None


def check_document(document: PipelineDocument) -> None:
    """Refuse a document that cannot be carried out.

    Raises:
        InvalidPipeline: with all that is wrong, up to 100 flaws.
    """
    flaws = list(islice(flaws_of(document), MOST_FLAWS))
    if flaws:
        raise InvalidPipeline.of(flaws)


def flaws_of(document: PipelineDocument) -> Iterator[Flaw]:
    """Yield what is wrong with a document."""
    for name, parameter in document.parameters.items():
        wrong = flaw_of_spec(parameter)
        if wrong is not None:
            yield Flaw(f"parameters.{name}.{wrong[0]}", "wrong_type", wrong[1])
    for name, spec in document.steps.items():
        place = f"steps.{name}"
        yield from _flaws_of_work(place, spec, document)
        yield from _flaws_of_bindings(place, spec, document)
        if spec.foreach is not None:
            yield from _flaws_of_list(f"{place}.foreach", spec.foreach, document)
        elif spec.most_at_once is not None:
            yield Flaw(
                f"{place}.most_at_once", "no_fan_out", "It limits a fan-out, and there is none.", "Give it a `foreach`."
            )
        if spec.when is not None:
            yield from _flaws_of_condition(f"{place}.when", spec.when, document)
    cycle = cycle_of(document.steps)
    if cycle is not None:
        told = " -> ".join([*cycle, cycle[0]])
        yield Flaw(
            f"steps.{cycle[0]}", "cycle", f"the steps need each other in a circle: {told}", "Take out one of them."
        )


def _flaws_of_work(place: str, spec: StepSpec, document: PipelineDocument) -> Iterator[Flaw]:
    given = [work for work in _WORKS if getattr(spec, work) is not None]
    if len(given) != 1:
        told = f"it has {' and '.join(given)}" if given else "it does nothing"
        yield Flaw(place, "one_work", f"{told}.", "A step has exactly one of `run`, `job`, `approval`, `notify`.")
        return
    if spec.run is None:
        if spec.outputs not in ({"result": ValueType.JSON}, spec.results):
            told = f"the outputs of a step with `{given[0]}` are given"
            named = ", ".join(spec.results) or "none"
            yield Flaw(f"{place}.outputs", "outputs_given", told, f"They are: {named}. Leave `outputs` out.")
        if spec.cache:
            yield Flaw(f"{place}.cache", "cannot_cache", f"a step with `{given[0]}` has no cache.", "Leave it out.")
    elif spec.cache and (document.code is None or spec.run.function not in document.code.digests):
        yield Flaw(
            f"{place}.cache",
            "digest_missing",
            f"`code.digests` does not tell what '{spec.run.function}' depends on.",
            "Submit the pipeline with the SDK or `mops`, which pack its code.",
        )
    if spec.job is not None:
        for name in spec.inputs.keys() - {"parameters", "dataset"}:
            yield Flaw(f"{place}.inputs.{name}", "unknown_input", "a job takes `parameters` and `dataset`.")
        if spec.job.dataset is None and "dataset" not in spec.inputs:
            yield Flaw(
                f"{place}.job.dataset", "missing_input", "the job has no dataset.", "Name one, or bind an input."
            )


def _flaws_of_bindings(place: str, spec: StepSpec, document: PipelineDocument) -> Iterator[Flaw]:
    for at, binding in step_bindings(spec):
        if isinstance(binding, FromItem):
            if spec.foreach is None:
                told, hint = (
                    "there is no item outside of a fan-out.",
                    "Give the step a `foreach`, or bind another value.",
                )
                yield Flaw(f"{place}.{at}", "item_outside", told, hint)
            elif not at.startswith("inputs."):
                told = "the item is known to the members only."
                yield Flaw(f"{place}.{at}", "item_outside", told, "Leave items out in the step that makes the list.")
        elif isinstance(binding, FromParameter) and binding.parameter not in document.parameters:
            told = f"there is no parameter '{binding.parameter}'."
            yield Flaw(f"{place}.{at}", "unknown_parameter", told, did_you_mean(binding.parameter, document.parameters))
        elif isinstance(binding, FromOutput):
            if binding.step not in document.steps:
                told = f"there is no step '{binding.step}'."
                yield Flaw(f"{place}.{at}", "unknown_step", told, did_you_mean(binding.step, document.steps))
            elif binding.output not in (results := document.steps[binding.step].results):
                told = f"step '{binding.step}' has no output '{binding.output}'."
                yield Flaw(f"{place}.{at}", "unknown_output", told, did_you_mean(binding.output, results))
    for number, need in enumerate(spec.after):
        if need not in document.steps:
            told = f"there is no step '{need}'."
            yield Flaw(f"{place}.after[{number}]", "unknown_step", told, did_you_mean(need, document.steps))


def _flaws_of_list(place: str, source: Binding, document: PipelineDocument) -> Iterator[Flaw]:
    hint = "A step runs for each item of a list, or of a fan-out's outputs."
    if isinstance(source, FromValue):
        if not isinstance(source.value, list):
            yield Flaw(place, "no_list", "the value is no list.", hint)
    elif isinstance(source, FromParameter):
        parameter = document.parameters.get(source.parameter)
        if parameter is not None and parameter.type is not ParameterType.LIST:
            yield Flaw(place, "no_list", f"parameter '{source.parameter}' is of type {parameter.type}.", hint)
    elif isinstance(source, FromOutput):
        step = document.steps.get(source.step)
        type_ = step.results.get(source.output) if step is not None else None
        if step is not None and step.foreach is None and type_ not in (None, ValueType.JSON):
            yield Flaw(place, "no_list", f"output '{source.output}' of '{source.step}' is of type {type_}.", hint)


def _flaws_of_condition(place: str, condition: Condition, document: PipelineDocument) -> Iterator[Flaw]:
    for at, binding in condition_bindings(condition):
        if isinstance(binding, FromOutput) and binding.step in document.steps:
            type_ = document.steps[binding.step].results.get(binding.output)
            if type_ not in (None, ValueType.JSON):
                told = f"output '{binding.output}' of '{binding.step}' is of type {type_}."
                yield Flaw(
                    f"{place}.{at}", "not_json", told, "Conditions look at JSON values: give the step an output for it."
                )
    for at, comparison in comparisons(condition):
        yield from _flaws_of_comparison(f"{place}.{at}".rstrip("."), comparison, document)


def _flaws_of_comparison(place: str, comparison: Comparison, document: PipelineDocument) -> Iterator[Flaw]:
    left, right = _kind(comparison.left, document), _kind(comparison.right, document)
    if comparison.operator in _ORDERS:
        kinds = {kind for kind in (left, right) if kind is not None}
        if kinds - {"number", "string"} or len(kinds) > 1:
            told = f"`{comparison.operator}` compares {' and '.join(sorted(kinds))}."
            yield Flaw(place, "wrong_type", told, "Only two numbers or two texts have an order.")
    elif "in" in comparison.operator and right in ("number", "boolean", "null"):
        told = f"`{comparison.operator}` searches a {right}."
        yield Flaw(f"{place}.right", "wrong_type", told, "On the right stands a list, a text or an object.")


def _kind(binding: Binding, document: PipelineDocument) -> str | None:
    """Return what kind of JSON value a binding gives, as far as the document tells."""
    if isinstance(binding, FromValue):
        return _kind_of_value(binding.value)
    if isinstance(binding, FromParameter) and binding.parameter in document.parameters:
        type_ = document.parameters[binding.parameter].type
        return "number" if type_ is ParameterType.INTEGER else str(type_)
    return None


def _kind_of_value(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "number"
    return {str: "string", list: "list", dict: "object"}[type(value)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names what is like `name`, or all there is."""
    there = sorted(known)
    if len(there) > _MOST_LIKE:
        return f"There are {len(there)} others."
    like = get_close_matches(name, there, n=1)
    if like:
        return f"Did you mean '{like[0]}'?"
    named = ", ".join(there[:10]) + (", …" if len(there) > 10 else "")
    return f"There are: {named}." if there else "There are none."


_UNIONS: Mapping[str, str] = {
    "binding": "Write {value: …}, {parameter: …}, {step: …, output: …} or {item: true}.",
    "condition": "Write {left: …, operator: …, right: …}, {all: […]}, {any: […]}, {negated: …} or {true: …}.",
}


def _flaws_of_form(wrong: ValidationError) -> Iterator[Flaw]:
    """Yield one flaw a place; of a binding or a condition that fits no form, one for the whole of it."""
    seen = set[str]()
    for error in wrong.errors(include_url=False, include_context=False):
        place, union = _place_of(error["loc"])
        if place in seen:
            continue
        seen.add(place)
        if union is not None:
            yield Flaw(place, "invalid_form", f"it is no {union}.", _UNIONS[union])
        else:
            hint = "Take it out, or see how it is spelt." if error["type"] == "extra_forbidden" else ""
            yield Flaw(place, "invalid_form", f"{error['msg'].removesuffix('.')}.", hint)


def _place_of(path: tuple[str | int, ...]) -> tuple[str, str | None]:
    """Return the place of an error of form, and which union it lies in: pydantic tells every form that was tried."""
    place = ""
    for part in path:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part in ("FromValue", "FromParameter", "FromOutput", "FromItem"):
            return place, "binding"
        elif part in ("Comparison", "AllOf", "AnyOf", "Not", "Truth"):
            return place, "condition"
        else:
            place += f".{part}" if place else part
    return place, None
