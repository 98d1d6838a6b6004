"""Steps of a notebook or an interactive session: they have no file, so the functions themselves are packed.

The last resort, by cloudpickle, with all that the functions use of the session. What is packed so is read again only by the
same minor version of Python, and its digest may change though the code did not: then the cache is missed.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from modelops.contracts.errors import InvalidInput, MissingExtra

MODULE = "pipeline_notebook"
_CONTENT = f"{MODULE}.pkl"

_SOURCE = f'''"""Steps of a notebook."""
import pickle
import sys
from pathlib import Path

if sys.version_info[:2] != {{version}}:
    raise RuntimeError("These steps were packed in a notebook with Python {{said}}, and no other reads them.")
globals().update(pickle.loads(Path(__file__).with_name("{_CONTENT}").read_bytes()))
'''


def is_session(module: str) -> bool:
    """Tell whether a module is an interactive session: `__main__` without a file."""
    return module == "__main__" and not hasattr(sys.modules.get("__main__"), "__file__")


def pack_session(functions: Mapping[str, Callable[..., Any]]) -> dict[str, bytes]:
    """Return the files of a module that holds these functions by name.

    Raises:
        MissingExtra: cloudpickle is not installed.
        InvalidInput: a function holds what cannot be packed.
    """
    try:
        import cloudpickle
    except ModuleNotFoundError:
        raise MissingExtra(
            "Steps of a notebook are packed by cloudpickle, which is not installed.",
            hint='Install "modelops[sklearn]", or write the steps to a file: `%%writefile steps.py`.',
        ) from None
    try:
        content = cloudpickle.dumps(dict(functions))
    except Exception as wrong:  # whatever an object that a function uses raises
        raise InvalidInput(
            f"The notebook's steps cannot be packed: {wrong}.",
            hint="Let steps open connections and files themselves, or write them to a file: `%%writefile steps.py`.",
        ) from wrong
    version = sys.version_info[:2]
    source = _SOURCE.format(version=tuple(version), said=".".join(map(str, version)))
    return {f"{MODULE}.py": source.encode(), _CONTENT: content}
