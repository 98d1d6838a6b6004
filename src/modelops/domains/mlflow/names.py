"""What MLflow allows as keys and names; it is stricter than the platform, and its clients rely on it."""

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.experiments.rules import ParameterChanged, RunDeleted

KEY, PARAMETER, TAG, EXPERIMENT_TAG, EXPERIMENT_NAME = 250, 65_000, 8_000, 20_000, 500
"""The lengths allowed, in characters."""

DATASET_NAME, DATASET_DIGEST, ID = 500, 100, 40
"""Those of what names a data set, and of an id."""

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


def required(value: str, parameter: str) -> str:
    """Return a value that must be given.

    Raises:
        InvalidInput: it is empty.
    """
    if not value:
        raise InvalidInput(
            f"Missing value for required parameter '{parameter}'.",
            hint="See the API docs for more information about request parameters.",
        )
    return value


@contextmanager
def in_mlflows_words(run: str) -> Iterator[None]:
    """Tell what was refused on a run as MLflow's clients know it."""
    try:
        yield
    except NotFound as absent:
        raise NotFound(f"Run with id={run} not found") from absent
    except RunDeleted as deleted:
        raise InvalidInput(
            f"The run {run} must be in the 'active' state. Current state is deleted.", hint=deleted.hint
        ) from deleted
    except ParameterChanged as changed:
        values = [
            {"key": key, "old_value": pair["present"], "new_value": pair["wanted"]}
            for key, pair in changed.extra["parameters"].items()
        ]
        raise InvalidInput(
            f"Changing param values is not allowed. Params were already logged='{values}' for run ID='{run}'."
        ) from changed


def quoted(text: str) -> str:
    """Return a text as errors show it."""
    return '"' + text[:200] + '"'


def _is_no_path(name: str) -> bool:
    return posixpath.normpath(name) != name or name == "." or name.startswith(("..", "/"))
