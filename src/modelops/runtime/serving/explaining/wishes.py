"""What a request for explanations asks for: rows, and how they are to be explained."""

from dataclasses import dataclass
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.serving.schemas import ExplainMethod
from modelops.runtime.serving.parsing import json_of

MOST_EVALUATIONS = 2**20

_MEMBERS = {"instances", "method", "max_evaluations"}
_METHODS = ", ".join(ExplainMethod)


@dataclass(frozen=True)
class Wish:
    """How rows are to be explained: by a method, or the cheapest that fits; and for how many rows the model may be asked to
    explain one, or what is usual."""

    method: ExplainMethod | None = None
    max_evaluations: int | None = None


def wish_of(body: bytes) -> tuple[Any, Wish]:
    """Return the rows in a body, which nobody has looked at, and how they are to be explained.

    Raises:
        InvalidInput: the body is not JSON, or has other members than those of `ExplainRequest`.
    """
    document = json_of(body)
    if not isinstance(document, dict) or not {"instances"} <= set(document) <= _MEMBERS:
        raise InvalidInput(
            'The body must be an object with the member "instances", a list of rows.',
            hint='Beside it, there may be "method" and "max_evaluations".',
        )
    return document["instances"], Wish(_method(document.get("method")), _evaluations(document.get("max_evaluations")))


def _method(value: Any) -> ExplainMethod | None:
    if value is None or (isinstance(value, str) and value in set(ExplainMethod)):
        return None if value is None else ExplainMethod(value)
    raise InvalidInput(f"There is no method of explaining {str(value)[:40]!r}.", hint=f"There are: {_METHODS}.")


def _evaluations(value: Any) -> int | None:
    if value is None or (type(value) is int and 0 < value <= MOST_EVALUATIONS):
        return value
    raise InvalidInput(f"`max_evaluations` must be a whole number from 1 to {MOST_EVALUATIONS:,}, or null.")
