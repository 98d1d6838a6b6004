"""Pipelines in files: YAML, or Python that has one written with `@pipeline`."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.packing import Packed, pack
from modelops.domains.pipelines.packing.modules import name_of_file
from modelops.domains.pipelines.yaml_reading import read_yaml


@runtime_checkable
class Written(Protocol):
    """A pipeline that somebody wrote, in whatever way."""

    @property
    def document(self) -> PipelineDocument:
        """Return the document, without its code."""
        ...

    def packed(self) -> Packed:
        """Return it with its code, ready to be submitted."""
        ...


@dataclass(frozen=True)
class WrittenInYaml:
    """A pipeline of a YAML file; the modules of its functions lie beside it."""

    document: PipelineDocument
    folder: Path
    requirements: Path | None = None

    def packed(self) -> Packed:
        """Return it with its code, ready to be submitted.

        Raises:
            InvalidPipeline: a function is not there, or takes other inputs.
        """
        return pack(self.document, search=[self.folder], requirements=self.requirements)


def load_pipeline(source: Path | str) -> Written:
    """Return the pipeline of a file: `nightly.yaml`, `nightly.py`, or `nightly.py:name` where a file has several.

    A Python file is imported, as Python would, with its folder on the path.

    Raises:
        InvalidInput: there is no such file, it has no pipeline, or it fails when it is imported.
        InvalidPipeline: the pipeline has flaws; of YAML, with their lines.
    """
    path, name = _split(str(source))
    if not path.is_file():
        raise InvalidInput(f"There is no file '{path}'.", hint="Name a file of YAML or Python.")
    if path.suffix == ".py":
        return _chosen(_import(path.absolute()), path, name)
    if path.suffix not in (".yaml", ".yml"):
        raise InvalidInput(f"'{path.name}' is neither YAML nor Python.", hint="Its name ends with .yaml, .yml or .py.")
    try:
        read = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(f"'{path.name}' is no text in UTF-8.") from None
    folder = path.absolute().parent
    return WrittenInYaml(read.document, folder, None if read.requirements is None else folder / read.requirements)


def _split(source: str) -> tuple[Path, str | None]:
    path, colon, name = source.rpartition(":")
    return (Path(path), name) if colon and path.endswith(".py") else (Path(source), None)


def _chosen(module: ModuleType, path: Path, name: str | None) -> Written:
    found: dict[str, Written] = {
        key: value
        for key, value in vars(module).items()
        if hasattr(type(value), "packed") and not key.startswith("_")  # no look at the value, which may refuse it
    }
    if name is not None:
        if name not in found:
            told = ", ".join(found) or "none"
            raise InvalidInput(f"'{path.name}' has no pipeline '{name}'.", hint=f"There are: {told}.")
        return found[name]
    own = {id(one): one for one in found.values() if getattr(one, "__module__", module.__name__) == module.__name__}
    if len(own) == 1:
        return next(iter(own.values()))
    if not found:
        raise InvalidInput(
            f"'{path.name}' has no pipeline.", hint="Decorate the function that calls steps with `@pipeline`."
        )
    raise InvalidInput(
        f"'{path.name}' has {len(found)} pipelines.",
        hint=f"Name one: {path}:{next(iter(found))}. There are: {', '.join(found)}.",
    )


def _import(path: Path) -> ModuleType:
    """Import a file: of a package under its whole name, else under its own."""
    root, parts = path.parent, [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts) if len(parts) > 1 else name_of_file(path)
    known = sys.modules.get(name)
    if known is not None and Path(getattr(known, "__file__", None) or "").absolute() == path:
        return known
    try:
        if len(parts) > 1:
            return importlib.import_module(name)
        specification = importlib.util.spec_from_file_location(name, path)
        if specification is None or specification.loader is None:
            raise InvalidInput(f"'{path.name}' cannot be imported.")
        module = sys.modules[name] = importlib.util.module_from_spec(specification)
        try:
            specification.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except InvalidInput:
        raise
    except Exception as wrong:  # whatever the file's own code raises
        line = _line_in(wrong, path)
        raise InvalidInput(
            f"'{path.name}' fails when it is imported{line}: {type(wrong).__name__}: {wrong}",
            hint=f"See the whole with `python {path}`.",
        ) from wrong


def _line_in(wrong: Exception, path: Path) -> str:
    """Say at which line of the file it failed."""
    found, trace = None, wrong.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return "" if found is None else f" (line {found})"
