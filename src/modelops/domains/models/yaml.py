"""JSON-like values as YAML 1.1 and 1.2, as the front matter of a model card needs them.

Texts stand in double quotes, so that none of them is read as anything else.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_PLAIN_KEY = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*$")
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return a mapping as a block of YAML; values are None, bool, int, float, str, and lists and mappings of them."""
    return "\n".join(_mapping(value, 0)) + "\n"


def _mapping(value: Mapping[str, Any], indent: int) -> list[str]:
    lines = []
    for key, item in value.items():
        lines += _entry(f"{' ' * indent}{_key(key)}:", item, indent + 2)
    return lines


def _sequence(value: list[Any], indent: int) -> list[str]:
    lines: list[str] = []
    for item in value:
        if isinstance(item, Mapping) and item:
            first, *others = _mapping(item, indent + 2)
            lines += [f"{' ' * indent}- {first.lstrip()}", *others]
        else:
            lines += _entry(f"{' ' * indent}-", item, indent + 2)
    return lines


def _entry(head: str, item: Any, indent: int) -> list[str]:
    if isinstance(item, Mapping) and item:
        return [head, *_mapping(item, indent)]
    if isinstance(item, list) and item:
        return [head, *_sequence(item, indent)]
    return [f"{head} {_scalar(item)}"]


def _key(key: str) -> str:
    return key if _PLAIN_KEY.match(key) and key.lower() not in _RESERVED else _text(key)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list) else _text(str(value))


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"  # YAML 1.1 takes 1e-05 for a text


def _text(value: str) -> str:
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
