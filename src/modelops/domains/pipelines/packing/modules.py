"""Modules of people's own: where they lie, under which name a worker finds them, and what they import.

A module is *local* unless it is of Python's own library, of an installed package, or of this product: workers have those.
"""

import ast
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

_PRODUCT = __name__.partition(".")[0]


@dataclass
class Finder:
    """Finds local modules by name, without importing anything.

    Attributes:
        search: Folders to look into before those of `sys.path`.
        files: Files of modules that are not found by their name, such as a script that is run.
    """

    search: Sequence[Path] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    _found: dict[str, Path | None] = field(default_factory=dict, repr=False)

    def find(self, name: str) -> Path | None:
        """Return the file of a local module, of a package its `__init__.py`; None of any other, and of what is none."""
        if name not in self._found:
            file = self.files.get(name) or self._look(name)
            self._found[name] = file if file is not None and is_local(name, file) else None
        return self._found[name]

    def needed(self, name: str) -> dict[str, Path]:
        """Return a local module and the local modules that it imports, directly or not, with the packages that hold them."""
        found: dict[str, Path] = {}
        left = list(_with_parents(name))
        while left:
            module = left.pop()
            file = None if module in found else self.find(module)
            if file is None:
                continue
            found[module] = file
            if file.suffix == ".py":
                for imported in imports_of(file, module):
                    left += [part for part in _with_parents(imported) if part not in found]
        return dict(sorted(found.items()))

    def _look(self, name: str) -> Path | None:
        path: list[str] | None = [*map(str, self.search), *sys.path]
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            spec = PathFinder.find_spec(".".join(parts[:count]), path)
            if spec is None:
                return None
            if count == len(parts):
                return Path(spec.origin).absolute() if spec.has_location and spec.origin else None
            if spec.submodule_search_locations is None:
                return None
            path = list(spec.submodule_search_locations)
        return None


def is_local(name: str, file: Path) -> bool:
    """Tell whether a module is somebody's own."""
    top = name.partition(".")[0]
    if top == _PRODUCT or top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return False
    return not any(file.is_relative_to(folder) for folder in _installed())


def imports_of(file: Path, name: str) -> Iterator[str]:
    """Yield the names of modules that a file may import, wherever in it: of `from a import b` both `a` and `a.b`.

    Raises:
        SyntaxError: it is no Python.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(package, node)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def worker_name(name: str, file: Path | None) -> str:
    """Return the name under which a worker imports a module; of a script that is run (`__main__`) it is its file's.

    A name that Python's library or an installed package has already is put off with `pipeline_`.
    """
    if name != "__main__" or file is None:
        return name
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    if specification is not None and specification.name and not specification.name.endswith("__main__"):
        return str(specification.name)
    return name_of_file(file)


def name_of_file(file: Path) -> str:
    """Return the name of a module that is given by its file alone."""
    stem = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in file.stem)
    taken = stem in sys.stdlib_module_names or stem == _PRODUCT or stem[:1].isdigit()
    if not taken:
        spec = PathFinder.find_spec(stem)
        origin = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
        taken = origin is not None and not is_local(stem, origin)
    return f"pipeline_{stem}" if taken else stem


def _base(package: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


@cache
def _installed() -> tuple[Path, ...]:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    folders += [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return tuple(dict.fromkeys(Path(folder).absolute() for folder in folders if folder))
