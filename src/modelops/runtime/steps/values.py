"""Values of steps between Python and files: what a function takes is read here, and what it returns is written.

Runs beside the user's code, in the interpreter of the steps: libraries are loaded when a value needs them.
"""

import dataclasses
import importlib
import inspect
import json
import math
import os
import shutil
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelops.sdk.step_context import StepContext

RESULT = "result"
"""The name of the output of a function that returns one value."""


_INLINE_BYTES = 64 * 1024
"""A JSON value up to so large goes to the keeper as it is, a larger one in a file."""


class WrongValue(Exception):
    """A value is not what the document declares."""


def annotations_of(function: Any) -> dict[str, Any]:
    """Return the annotations of a function's parameters: as they are written, where they name what is not there."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation may name what only a type checker sees
        return dict(getattr(function, "__annotations__", {}))


def load_input(reference: Any, wanted: Any, context: StepContext) -> Any:
    """Return a value that was passed by reference, or the list of them.

    Args:
        reference: `{"type", "path", "filename", "model_version_id"}`, of a small JSON value `{"type", "content"}`, or a list
            of these.
        wanted: The annotation of the parameter; of a list's items it is the one within `list[…]`.
        context: The step's.
    """
    if isinstance(reference, list):
        arguments = typing.get_args(wanted)
        return [load_input(one, arguments[0] if len(arguments) == 1 else None, context) for one in reference]
    kind = reference["type"]
    if kind == "json":
        content = reference["content"] if "content" in reference else Path(reference["path"]).read_bytes()
        return shaped(json.loads(content), wanted)
    if kind == "file":
        return _named(Path(reference["path"]), reference["filename"], context)
    if kind == "arrow":
        return _table(Path(reference["path"]), wanted)
    return _model(reference["model_version_id"], wanted, context)


def shaped(value: Any, wanted: Any) -> Any:
    """Return a JSON value as the pydantic model or dataclass that the parameter's annotation names."""
    if isinstance(wanted, type) and (hasattr(wanted, "model_validate") or hasattr(wanted, "__dataclass_fields__")):
        from pydantic import TypeAdapter

        return TypeAdapter(wanted).validate_python(value)
    return value


def dump_outputs(returned: Any, declared: Mapping[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """Write what a function returned as its declared outputs: `{"type", "path", "filename", "model_version_id"}` each.

    Raises:
        WrongValue: it is not what is declared; the error names the output.
    """
    if not declared:
        return {}
    if list(declared) == [RESULT]:
        values: Mapping[str, Any] = {RESULT: returned}
    elif isinstance(returned, Mapping):
        values = returned
    elif hasattr(returned, "_asdict"):
        values = returned._asdict()
    elif dataclasses.is_dataclass(returned):
        values = {one.name: getattr(returned, one.name) for one in dataclasses.fields(returned)}
    else:
        raise WrongValue(
            f"The step declares the outputs {_names(declared)}: return a mapping with these, not {_kind(returned)}."
        )
    if set(values) != set(declared):
        raise WrongValue(f"The step declares the outputs {_names(declared)}, and returned {_names(values)}.")
    return {name: _dump(name, kind, values[name], folder) for name, kind in declared.items()}


def canonical(value: Any) -> bytes:
    """Return the one way to write a JSON value, so that equal values have equal digests.

    Raises:
        WrongValue: it is no JSON value.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain, allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as wrong:
        raise WrongValue(str(wrong)) from wrong


def _plain(value: Any) -> Any:
    """Return what JSON has no form of, as the nearest it has."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # of numpy's, a scalar or an array
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{_kind(value)} has no form in JSON")


def _dump(name: str, kind: str, value: Any, folder: Path) -> dict[str, Any]:
    try:
        if kind == "json":
            return _json(canonical(value), folder / f".{name}.json")
        if kind == "file":
            return _file(value)
        if kind == "arrow":
            return {"type": kind, "path": str(_write_table(value, folder / f".{name}.arrow"))}
        return {"type": kind, "model_version_id": _version_id(value)}
    except WrongValue as wrong:
        raise WrongValue(f"The output '{name}' is declared as {kind}: {wrong}.") from wrong


def _json(content: bytes, path: Path) -> dict[str, Any]:
    if len(content) <= _INLINE_BYTES:
        return {"type": "json", "content": content.decode()}
    path.write_bytes(content)
    return {"type": "json", "path": str(path)}


def _file(value: Any) -> dict[str, Any]:
    if not isinstance(value, str | os.PathLike):
        raise WrongValue(f"the function must return a path, not {_kind(value)}")
    path = Path(os.fspath(value)).absolute()
    if not path.is_file():
        raise WrongValue(f"there is no file '{path}'")
    return {"type": "file", "path": str(path), "filename": path.name}


def _write_table(value: Any, path: Path) -> Path:
    import pyarrow as pa

    table = value
    if not isinstance(table, pa.Table):
        table = _as_table(value, pa)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def _as_table(value: Any, pa: Any) -> Any:
    try:
        if isinstance(value, pa.RecordBatch):
            return pa.Table.from_batches([value])
        if type(value).__module__.split(".")[0] == "pandas" and hasattr(value, "columns"):
            return pa.Table.from_pandas(value, preserve_index=None)
        if hasattr(value, "__arrow_c_stream__"):  # Polars, and whoever else speaks Arrow's protocol
            return pa.table(value)
        if isinstance(value, Mapping):
            return pa.table(dict(value))
        if isinstance(value, list) and all(isinstance(row, Mapping) for row in value) and value:
            return pa.Table.from_pylist(value)
    except (pa.ArrowException, TypeError, ValueError) as wrong:
        raise WrongValue(f"{_kind(value)} is no table: {wrong}") from wrong
    raise WrongValue(f"the function must return a table, not {_kind(value)}")


def _table(path: Path, wanted: Any) -> Any:
    import pyarrow as pa

    # The file is mapped, not read: pages that nobody looks at are never loaded, and the table keeps the mapping alive.
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    library = (wanted if isinstance(wanted, str) else getattr(wanted, "__module__", "")).split(".")[0]
    if library in ("pandas", "pd"):
        return table.to_pandas()
    if library in ("polars", "pl"):
        return importlib.import_module("polars").from_arrow(table)
    if wanted in (dict, list) or typing.get_origin(wanted) in (dict, list):
        return table.to_pydict() if (typing.get_origin(wanted) or wanted) is dict else table.to_pylist()
    return table


def _model(version: str, wanted: Any, context: StepContext) -> Any:
    if wanted in (str, None, inspect.Parameter.empty):
        return version
    from modelops.sdk.registry import ModelRegistry

    registry = ModelRegistry(context.client)
    if getattr(wanted, "__name__", "") == "ModelVersion":
        return registry.find_version(version)
    return registry.load_model(version)


def _version_id(value: Any) -> str:
    version = value if isinstance(value, str) else getattr(value, "id", None)
    if not isinstance(version, str) or not version:
        raise WrongValue(
            f"the function must return a registered version or its id, not {_kind(value)}; register it with "
            "`modelops.register_model` first"
        )
    return version


def _named(path: Path, filename: str, context: StepContext) -> Path:
    """Return the file under the name that it had, which its reader may go by."""
    name = Path(filename).name
    if not name:
        return path
    folder = context.folder / ".inputs" / path.name[:16]
    folder.mkdir(parents=True, exist_ok=True)
    named = folder / name
    if not named.exists():
        try:
            named.symlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, named)
    return named


def _names(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return "None" if value is None else f"a value of type '{type(value).__qualname__}'"
