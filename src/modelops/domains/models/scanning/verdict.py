"""From what was found in the files of a package to whether it may be registered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelops.domains.models.flavours.mlmodel import PYFUNC, MlModel
from modelops.domains.models.rules import ScanRefused
from modelops.domains.models.scanning.allowed import is_allowed
from modelops.domains.models.scanning.findings import FileScan, Reading
from modelops.domains.models.scanning.formats import reading_of
from modelops.domains.models.schemas import ModelScan, PackageFile

CALLABLE = "callable"

_SHOWN, _KEPT = 10, 500
_PICKLED = ("pickled_model", "python_model")
_OPENED = ("data", "model_path", "model_data")


@dataclass(frozen=True)
class PackageScan:
    """What was found in a package: by path, and what its `MLmodel` has loaders import."""

    files: Mapping[str, FileScan]
    described: MlModel | None = None


def readings(files: Sequence[PackageFile], described: MlModel | None) -> dict[str, Reading]:
    """Return how each file of a package is opened: as its name tells, and as an `MLmodel` says of it."""
    found = {file.path: reading_of(file.path) for file in files}
    for facts in described.flavors.values() if described is not None else ():
        for key in (*_PICKLED, *_OPENED):
            path = facts.get(key)
            if not isinstance(path, str) or path not in found:
                continue
            if key in _PICKLED:
                found[path] = Reading.PICKLE
            elif found[path] is Reading.TEXT:
                found[path] = Reading.ANY
    return found


def judge(
    scan: PackageScan, flavour: str, *, runs_code: bool, allow_unsafe: bool, accepted_by: str, more: Iterable[str] = ()
) -> tuple[ModelScan, bool]:
    """Decide whether a package may be registered.

    Args:
        scan: What was found.
        flavour: The version's flavour.
        runs_code: Whether whoever registers it says that it brings code of its own.
        allow_unsafe: Whether somebody who may do so takes responsibility for what the rules refuse.
        accepted_by: Who registers it.
        more: Modules that the platform's settings allow.

    Returns:
        What to keep with the version, and whether it runs code of its own.

    Raises:
        ScanRefused: a file cannot be read to its end, or holds what nobody allowed; the error names it.
    """
    _refuse_unreadable(scan)
    extra = list(more)
    imports = sorted({name for file in scan.files.values() for name in file.imports} | set(_loaders(scan.described)))
    code = sorted({f"{path}{where}" for path, file in scan.files.items() for where in file.code})
    outside = [name for name in imports if not is_allowed(name, flavour, code=True, more=extra)]
    # Names that only code by value needs count as code: in a package that brings none, they have no place.
    code += [f"imports {name}" for name in imports if name not in outside and not _plain(name, flavour, extra)]
    unsafe = [f"imports {name.rstrip(':')}" for name in outside]
    unsafe += sorted({f"{path}{what}" for path, file in scan.files.items() for what in file.unsafe})
    if code and not (runs_code or flavour == CALLABLE or _says_code(scan.described)):
        unsafe += [f"brings code: {where}" for where in code]
    if unsafe and not allow_unsafe:
        _refuse(unsafe, flavour)
    kept = ModelScan(
        imports=imports[:_KEPT], code=code[:_KEPT], unsafe=unsafe[:_KEPT], accepted_by=accepted_by if unsafe else None
    )
    return kept, bool(code) or flavour == CALLABLE


def _plain(name: str, flavour: str, more: list[str]) -> bool:
    return is_allowed(name, flavour, code=False, more=more)


def _loaders(described: MlModel | None) -> list[str]:
    loader = None if described is None else described.flavors.get(PYFUNC, {}).get("loader_module")
    return [] if loader is None else [f"{loader}:"]


def _says_code(described: MlModel | None) -> bool:
    """Tell whether an MLflow folder is by its nature somebody's code, as a `PythonModel` is."""
    facts = {} if described is None else described.flavors.get(PYFUNC, {})
    return any(facts.get(key) for key in ("python_model", "model_code_path"))


def _refuse_unreadable(scan: PackageScan) -> None:
    for path, found in scan.files.items():
        if found.unreadable is not None:
            raise ScanRefused(
                f"The file '{path}' cannot be judged: {found.unreadable}.",
                hint="Save the model again with the library it is of. Nobody's permission helps here.",
                extra={"path": path, "unreadable": found.unreadable},
            )


def _refuse(unsafe: list[str], flavour: str) -> None:
    shown = "; ".join(unsafe[:_SHOWN]) + (f"; and {len(unsafe) - _SHOWN} more" if len(unsafe) > _SHOWN else "")
    only_code = all(what.startswith("brings code") for what in unsafe)
    hint = (
        "If the code is yours, say so: register it with `runs_code`."
        if only_code
        else "Save it in its library's own format, or have somebody with the permission `models.unsafe` register it with "
        "`allow_unsafe`. An operator can allow modules: the setting `model_imports`."
    )
    raise ScanRefused(
        f"The package holds what models of the flavour '{flavour}' have no need of: {shown}.",
        hint=hint,
        extra={"unsafe": unsafe[:100]},
    )
