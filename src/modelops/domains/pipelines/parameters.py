"""A run's parameters against what the pipeline says of them.

A text stands for a value of the parameter's type (`"3"` for an integer, `"[1, 2]"` for a list), as command lines give it; a
number without a fraction is an integer. Everything else must be of the type. Null is taken where null is the default.
"""

import json
import math
from collections.abc import Mapping
from difflib import get_close_matches

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.conditions import same
from modelops.domains.pipelines.document import ParameterSpec, ParameterType


def check_parameters(specs: Mapping[str, ParameterSpec], given: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parameters of a run: what was given, in its type, and the defaults of the others.

    Raises:
        InvalidInput: a name is unknown, a value missing or of the wrong type; the error tells all of them.
    """
    wrong = [_unknown(name, specs) for name in given if name not in specs]
    taken: dict[str, Json] = {}
    for name, spec in specs.items():
        try:
            taken[name] = _taken(spec, given[name]) if name in given else _default(spec)
        except ValueError as refused:
            wrong.append(f"parameters.{name}: {refused}")
    if wrong:
        raise InvalidInput("; ".join(wrong), hint="See the pipeline's parameters with `mops pipelines show`.")
    return taken


def flaw_of_spec(spec: ParameterSpec) -> tuple[str, str] | None:
    """Return which member of a parameter's spec contradicts its type, and how; None if none does."""
    for choice in spec.choices or ():
        if not _is(spec.type, choice):
            return "choices", f"{json.dumps(choice)} is no {spec.type}."
    if spec.choices == []:
        return "choices", "there is nothing to choose from."
    if spec.default is None:
        return None
    if spec.required:
        return "default", "a parameter that must be given has no default."
    if not _is(spec.type, spec.default):
        return "default", f"{json.dumps(spec.default)} is no {spec.type}."
    if not _allowed(spec, spec.default):
        return "default", "it is none of the choices."
    return None


def _default(spec: ParameterSpec) -> Json:
    if spec.required:
        raise ValueError("it must be given.")
    return spec.default


def _taken(spec: ParameterSpec, value: Json) -> Json:
    if value is None and spec.default is None and not spec.required:
        return None
    found = _read(spec.type, value) if isinstance(value, str) else value
    if spec.type is ParameterType.INTEGER and isinstance(found, float) and found.is_integer():
        found = int(found)
    if not _is(spec.type, found):
        raise ValueError(f"{_shortened(value)} is no {spec.type}.")
    if not _allowed(spec, found):
        raise ValueError(f"{_shortened(value)} is none of {', '.join(map(json.dumps, spec.choices or ()))}.")
    return found


def _read(type_: ParameterType, text: str) -> Json:
    if type_ is ParameterType.STRING:
        return text
    try:
        found: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found


def _is(type_: ParameterType, value: Json) -> bool:
    if isinstance(value, bool):
        return type_ is ParameterType.BOOLEAN
    if type_ is ParameterType.NUMBER:
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    kinds: dict[ParameterType, type] = {
        ParameterType.STRING: str,
        ParameterType.INTEGER: int,
        ParameterType.LIST: list,
        ParameterType.OBJECT: dict,
    }
    return type_ in kinds and isinstance(value, kinds[type_])


def _allowed(spec: ParameterSpec, value: Json) -> bool:
    return spec.choices is None or any(same(value, choice) for choice in spec.choices)


def _unknown(name: str, specs: Mapping[str, ParameterSpec]) -> str:
    like = get_close_matches(name, specs, n=1)
    return f"parameters.{name}: there is no such parameter{f'; did you mean {like[0]!r}?' if like else '.'}"


def _shortened(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
