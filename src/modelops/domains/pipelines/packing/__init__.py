"""The code of function steps: which files they need, the archive of these, and what each function's results depend on."""

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.checking import InvalidPipeline, check_document
from modelops.domains.pipelines.document import Code, PipelineDocument
from modelops.domains.pipelines.packing.archive import pack_files
from modelops.domains.pipelines.packing.modules import Finder, worker_name
from modelops.domains.pipelines.packing.notebooks import MODULE, is_session, pack_session
from modelops.domains.pipelines.packing.signatures import flaws_of_functions

if TYPE_CHECKING:
    from modelops.domains.data.client import Data  # steps import this module, and need no connection for it


@dataclass(frozen=True)
class Packed:
    """A pipeline that is ready to be submitted: `document.code` names the archive, and the lock file where there is one."""

    document: PipelineDocument
    archive: bytes | None
    requirements: bytes | None

    def upload(self, data: "Data") -> PipelineDocument:
        """Store what the document names, and return it."""
        code = self.document.code
        if self.archive is not None and code is not None:
            data.upload_artifact(self.archive, media_type="application/zstd", digest=code.digest)
            if self.requirements is not None:
                data.upload_artifact(self.requirements, media_type="text/plain", digest=code.requirements)
        return self.document


def pack(
    document: PipelineDocument,
    *,
    search: Sequence[Path] = (),
    files: Mapping[str, Path] | None = None,
    session: Mapping[str, Callable[..., Any]] | None = None,
    requirements: Path | None = None,
) -> Packed:
    """Pack the code of a document's function steps, and check it with the document.

    What is packed are the steps' modules, the local modules that these import, directly or not, and the whole of packages
    among them with their data files.

    Args:
        document: Without its code.
        search: Folders where modules lie, before those of `sys.path`.
        files: The files of modules that are not found by name.
        session: Functions of a notebook by their name, which have no file.
        requirements: A lock file, where the steps need an environment of their own.

    Raises:
        InvalidPipeline: a function is not there, or does not take the inputs; or the document has other flaws.
        TooLarge: the files are more than an archive takes.
        InvalidInput: a module is no Python.
    """
    functions = sorted({spec.run.function for spec in document.steps.values() if spec.run is not None})
    if not functions:
        check_document(document)
        return Packed(document, None, None)
    finder = Finder(search, files or {})
    of_session = pack_session(session) if session else {}
    content: dict[str, bytes | Path] = dict(of_session)
    digests: dict[str, str] = {}
    for module in dict.fromkeys(function.partition(":")[0] for function in functions):
        if module == MODULE and of_session:
            depends = hashlib.sha256(b"".join(of_session.values()))
        else:
            needed = _needed(finder, module)
            content |= _files_of(needed)
            depends = _digest_of(needed, module)
        for function in functions:
            if function.partition(":")[0] == module:
                digests[function] = f"sha256:{hashlib.sha256(depends.digest() + function.encode()).hexdigest()}"
    archive = pack_files(content)
    lock = None if requirements is None else _read_lock(requirements)
    code = Code(digest=_sha256(archive), digests=digests, requirements=None if lock is None else _sha256(lock))
    whole = document.model_copy(update={"code": code})
    flaws = list(flaws_of_functions(document.steps, finder, {MODULE} if session else set()))
    if flaws:
        raise InvalidPipeline.of(flaws)
    check_document(whole)
    return Packed(whole, archive, lock)


def pack_function(function: Callable[..., Any]) -> tuple[str, bytes]:
    """Pack a function alone: return how a worker names it, `module:name`, and the archive of its module and of the local
    modules that this imports. Raises as `pack`, but for what a document has."""
    module, file = module_of(function), file_of(function.__module__)
    name = f"{module}:{function.__qualname__}"
    if file is None:
        return name, pack_files(dict(pack_session({function.__qualname__: function})))
    needed = _needed(Finder((), {module: file}), module)
    if not needed:
        raise InvalidInput(
            f"'{name}' is of an installed package, and is not packed.",
            hint=f"Run it by its name, where the package is installed: function={name}.",
        )
    return name, pack_files(dict(_files_of(needed)))


def module_of(function: Callable[..., Any]) -> str:
    """Return the name under which a worker imports a function's module."""
    if is_session(function.__module__):
        return MODULE
    return worker_name(function.__module__, file_of(function.__module__))


def file_of(module: str) -> Path | None:
    """Return the file of a module that is loaded."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else Path(file).absolute()


def _needed(finder: Finder, module: str) -> dict[str, Path]:
    try:
        return finder.needed(module)
    except (SyntaxError, ValueError, OSError) as wrong:
        raise InvalidInput(f"The code of module '{module}' cannot be read: {wrong}.") from wrong


def _files_of(needed: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of modules by their path in the archive, of packages with all that lies in them."""
    found: dict[str, Path] = {}
    for name, file in needed.items():
        path = name.replace(".", "/")
        if file.name != "__init__.py":
            found[path + _ending(file)] = file
        elif "." in name:
            found[f"{path}/__init__.py"] = file
        else:
            found |= {f"{path}/{inner.relative_to(file.parent).as_posix()}": inner for inner in _within(file.parent)}
    return found


def _ending(file: Path) -> str:
    """Return all of a module's suffix: of a compiled one it tells the interpreter, too."""
    return ".py" if file.suffix == ".py" else file.name[file.name.index(".") :]


def _within(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _within(path)
        elif path.is_file() and path.suffix != ".pyc":
            yield path


def _digest_of(needed: Mapping[str, Path], module: str) -> Any:
    """Return the digest of what a module's functions depend on. Formatting and comments are no part of it."""
    found = hashlib.sha256()
    for name, file in needed.items():
        content = file.read_bytes()
        if file.suffix == ".py":
            content = ast.dump(ast.parse(content)).encode()
        found.update(f"{name}\0{len(content)}\0".encode())
        found.update(content)
    if not needed:  # of an installed package
        found.update(_installed_version(module).encode())
    return found


def _installed_version(module: str) -> str:
    from importlib.metadata import packages_distributions, version

    top = module.partition(".")[0]
    owners = packages_distributions().get(top, [])
    return " ".join(f"{owner}=={version(owner)}" for owner in sorted(set(owners))) or top


def _read_lock(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise InvalidInput(f"The lock file '{path}' cannot be read: {wrong.strerror}.") from wrong


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
