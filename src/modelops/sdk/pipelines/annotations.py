"""What a function's annotations say: of a step its inputs and outputs, of a pipeline its parameters."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import ParameterSpec, ParameterType, ValueType

_LIBRARIES = {("pyarrow", "Table"), ("pyarrow", "RecordBatch"), ("pandas", "DataFrame"), ("polars", "DataFrame")}
_NAMES = {
    str: ParameterType.STRING,
    int: ParameterType.INTEGER,
    float: ParameterType.NUMBER,
    bool: ParameterType.BOOLEAN,
    list: ParameterType.LIST,
    tuple: ParameterType.LIST,
    Sequence: ParameterType.LIST,
    dict: ParameterType.OBJECT,
    Mapping: ParameterType.OBJECT,
}


@dataclass(frozen=True)
class Parameter:
    """What is said of a pipeline's parameter beside its type and default: `count: Annotated[int, Parameter("How many")]`."""

    description: str = ""
    choices: Sequence[Json] | None = None


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's annotations, with what `Annotated` adds.

    Raises:
        InvalidInput: one names what is not there.
    """
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError) as wrong:
        raise InvalidInput(
            f"An annotation of '{function.__qualname__}' cannot be read: {wrong}.",
            hint="Import what it names outside of `if TYPE_CHECKING:`, at the module's top.",
        ) from wrong


def outputs_of(function: Callable[..., Any]) -> dict[str, ValueType]:
    """Return a step's outputs: the members of a NamedTuple, TypedDict or dataclass, else `result`; none of `-> None`."""
    returned = hints_of(function).get("return", Any)
    if returned is type(None):
        return {}
    members = _members_of(returned)
    return (
        {"result": value_type(returned)} if members is None else {name: value_type(of) for name, of in members.items()}
    )


def value_type(annotation: Any) -> ValueType:
    """Return how a value with this annotation lies in the store."""
    if typing.get_origin(annotation) is Annotated:
        plain, *extras = typing.get_args(annotation)
        for extra in extras:
            if isinstance(extra, ValueType):
                return extra
        annotation = plain
    annotation = _without_none(annotation)
    for kind in getattr(annotation, "__mro__", ()):
        module, name = kind.__module__.partition(".")[0], kind.__name__
        if (module, name) in _LIBRARIES:
            return ValueType.ARROW
        if (kind.__module__, name) in (("pathlib", "Path"), ("pathlib._local", "Path")):
            return ValueType.FILE
        if (module, name) == ("modelops", "ModelVersion"):
            return ValueType.MODEL
    return ValueType.JSON


def parameters_of(function: Callable[..., Any]) -> dict[str, ParameterSpec]:
    """Return a pipeline's parameters from its function's.

    Raises:
        InvalidInput: one is of a type that no parameter has.
    """
    hints = hints_of(function)
    return {
        name: _parameter(name, parameter, hints.get(name, inspect.Parameter.empty))
        for name, parameter in inspect.signature(function).parameters.items()
    }


def _parameter(name: str, parameter: inspect.Parameter, annotation: Any) -> ParameterSpec:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise InvalidInput(f"The pipeline's parameter '{name}' has no name of its own.", hint="Name each of them.")
    said = Parameter()
    if typing.get_origin(annotation) is Annotated:
        annotation, *extras = typing.get_args(annotation)
        said = next((extra for extra in extras if isinstance(extra, Parameter)), said)
    required = parameter.default is parameter.empty
    if annotation is parameter.empty and not required and parameter.default is not None:
        annotation = type(parameter.default)
    annotation = _without_none(annotation)
    choices = said.choices
    if typing.get_origin(annotation) is Literal:
        choices = typing.get_args(annotation)
        annotation = type(choices[0])
    type_ = _NAMES.get(typing.get_origin(annotation) or annotation)
    if type_ is None:
        raise InvalidInput(
            f"The pipeline's parameter '{name}' has no type that is known.",
            hint="Annotate it as str, int, float, bool, list or dict; a step makes everything else of these.",
        )
    return ParameterSpec(
        type=type_,
        default=None if required else parameter.default,
        required=required,
        description=said.description,
        choices=None if choices is None else list(choices),
    )


def _members_of(annotation: Any) -> dict[str, Any] | None:
    if typing.get_origin(annotation) is Annotated:
        return None
    if not isinstance(annotation, type):
        return None
    if hasattr(annotation, "_fields") or typing.is_typeddict(annotation) or dataclasses.is_dataclass(annotation):
        return typing.get_type_hints(annotation, include_extras=True)
    return None


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        others = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        if len(others) == 1:
            return others[0]
    return annotation
