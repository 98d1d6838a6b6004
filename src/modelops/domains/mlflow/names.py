"""What MLflow allows as keys and names; it is stricter than the platform, and its clients rely on it."""

import posixpath
import re

from modelops.contracts.errors import InvalidInput

KEY, PARAMETER, TAG, EXPERIMENT_TAG, EXPERIMENT_NAME = 250, 65_000, 8_000, 20_000, 500
"""The lengths allowed, in characters."""

_NAME = re.compile(r"[/\w.\- :]*")


def check_key(key: str, path: str) -> None:
    """Refuse what is no key of a metric, parameter or tag; `path` is where it stands in the request.

    Raises:
        InvalidInput: says which signs or lengths are allowed.
    """
    if not _NAME.fullmatch(key):
        raise InvalidInput(
            f"Invalid value {quoted(key)} for parameter '{path}' supplied: Names may only contain alphanumerics, "
            "underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    if not key or _is_no_path(key):
        raise InvalidInput(
            f"Invalid value {quoted(key)} for parameter '{path}' supplied: Names may be treated as files in certain "
            f"cases, and must not resolve to other names when treated as such."
        )
    check_length(key, KEY, path)


def check_length(value: str, limit: int, path: str) -> None:
    """Refuse what is too long.

    Raises:
        InvalidInput: says how long it may be.
    """
    if len(value) > limit:
        raise InvalidInput(f"'{path}' exceeds the maximum length of {limit} characters.")
    if "\x00" in value:
        raise InvalidInput(f"Invalid value for parameter '{path}' supplied: a NUL character cannot be stored.")


def quoted(text: str) -> str:
    """Return a text as errors show it."""
    return '"' + text[:200] + '"'


def _is_no_path(name: str) -> bool:
    return posixpath.normpath(name) != name or name == "." or name.startswith(("..", "/"))
