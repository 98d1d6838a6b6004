"""What lies on the stack while a pickle is followed, and the arrays that joblib puts between opcodes."""

import re
from dataclasses import dataclass
from typing import Any, Never

from modelops.domains.models.scanning.findings import Unreadable


@dataclass(frozen=True)
class Name:
    """Something imported."""

    module: str
    name: str


@dataclass
class Made:
    """What a call returned. `by_value` tells that its callable is code which the pickle itself brought."""

    of: Name | None
    arguments: Any = ()
    state: Any = None
    by_value: bool = False


class Unknown:
    """A value that does not matter."""


VALUE = Unknown()


def layout(state: Any) -> tuple[int | None, int]:
    """Return how many values joblib's array has and how many bytes each takes, by its wrapper's state.

    For an array of objects, which is a pickle of its own, the number is None.

    Raises:
        Unreadable: the state does not tell.
    """
    if not isinstance(state, dict):
        _strange()
    shape, dtype = state.get("shape"), state.get("dtype")
    if not isinstance(shape, tuple) or not isinstance(dtype, Made) or dtype.of != Name("numpy", "dtype"):
        _strange()
    code = dtype.arguments[0] if isinstance(dtype.arguments, tuple) and dtype.arguments else None
    found = re.match(r"^([?bBiufcmMSUOV])(\d*)$", code) if isinstance(code, str) else None
    if found is None or not all(type(length) is int and length >= 0 for length in shape):
        _strange()
    kind, width = found[1], int(found[2] or 1)
    if kind == "V" and not _plain_fields(dtype.state, width):
        _strange()
    if kind == "O":
        return None, 0
    count = 1
    for length in shape:
        count *= length
    return count, width * (4 if kind == "U" else 1)


def _plain_fields(state: Any, width: int) -> bool:
    """Tell whether a dtype of fields holds numbers alone, as its pickled state says (`numpy.dtype.__setstate__`)."""
    if not isinstance(state, tuple) or len(state) < 8 or state[2] is not VALUE or not isinstance(state[4], dict):
        return False
    kinds = [field[0] if isinstance(field, tuple) and field else None for field in state[4].values()]
    codes = [kind.arguments[0] for kind in kinds if isinstance(kind, Made) and kind.arguments]
    plain = [code for code in codes if isinstance(code, str) and re.match(r"^[?bBiufc]\d*$", code)]
    return len(plain) == len(kinds) and state[5] == width and type(state[7]) is int and not state[7] & 1


def _strange() -> Never:
    raise Unreadable("it holds an array of joblib whose layout cannot be told")
