"""Pickles that load where the author's own code is not installed, and what they need there."""

import pickle
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from modelops.contracts.errors import InvalidInput


def dump(model: Any, path: Path) -> None:
    """Pickle a model to a file; code that it uses and no installed distribution holds goes along by value.

    Raises:
        InvalidInput: something in the model cannot be pickled.
    """
    try:
        with _own_code_by_value():
            content = cloudpickle.dumps(model, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as wrong:
        raise InvalidInput(
            f"The model of type {type(model).__qualname__} cannot be saved: {wrong}.",
            hint="Open files, locks and connections cannot be saved; open them when the model is called.",
        ) from wrong
    path.write_bytes(content)


def load(path: Path) -> Any:
    """Load what `dump` wrote. Unpickling runs code: verify the file first."""
    with path.open("rb") as opened:
        return pickle.load(opened)  # noqa: S301 - the package's signature and digests were verified before


def pinned(modules: Iterable[str]) -> list[str]:
    """Return `distribution==version` for each installed distribution that one of the modules comes from."""
    installed = packages_distributions()
    names = {name for module in modules for name in installed.get(_root(module), [])}
    return sorted(f"{name}=={version(name)}" for name in names)


@contextmanager
def _own_code_by_value() -> Iterator[None]:
    added = _own_modules() - cloudpickle.list_registry_pickle_by_value()
    for name in added:
        cloudpickle.register_pickle_by_value(sys.modules[name])
    try:
        yield
    finally:
        for name in added:
            cloudpickle.unregister_pickle_by_value(sys.modules[name])


def _own_modules() -> set[str]:
    """Return the loaded top-level modules of no distribution: the author's, which no requirement can bring elsewhere."""
    # `__main__` goes by value anyway.
    brought = {"__main__", "__mp_main__", "modelops", *sys.stdlib_module_names, *packages_distributions()}
    return {name for name in {_root(name) for name in list(sys.modules)} - brought if _is_own(sys.modules.get(name))}


def _is_own(module: ModuleType | None) -> bool:
    if not isinstance(module, ModuleType):
        return False
    file = getattr(module, "__file__", None)
    homes = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return file is None or not any(Path(file).is_relative_to(home) for home in homes)


def _root(module: str) -> str:
    return module.partition(".")[0]
