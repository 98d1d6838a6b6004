"""Whether functions are there and take what a document gives them, told from their text: nothing is imported."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.util import find_spec

from modelops.domains.pipelines.checking import Flaw, did_you_mean
from modelops.domains.pipelines.document import StepSpec
from modelops.domains.pipelines.packing.modules import Finder


def flaws_of_functions(steps: Mapping[str, StepSpec], finder: Finder, known: Collection[str]) -> Iterator[Flaw]:
    """Yield what is wrong with the functions of a document; modules that are `known` are not looked at."""
    trees: dict[str, ast.Module | None] = {}
    for step, spec in steps.items():
        if spec.run is None:
            continue
        module, _, function = spec.run.function.partition(":")
        if module in known:
            continue
        file = finder.find(module)
        if file is None and not _installed(module, finder):
            told = f"there is no module '{module}'."
            yield Flaw(f"steps.{step}.run.function", "unknown_module", told, "It is looked for beside the file.")
        if module not in trees:
            trees[module] = ast.parse(file.read_bytes()) if file is not None and file.suffix == ".py" else None
        tree = trees[module]
        if tree is not None and "." not in function:
            yield from _flaws_of_call(function, tree, step, spec)


def _installed(module: str, finder: Finder) -> bool:
    top = module.partition(".")[0]
    try:
        return find_spec(top) is not None and finder.find(top) is None
    except (ImportError, ValueError):
        return False


def _flaws_of_call(name: str, tree: ast.Module, step: str, spec: StepSpec) -> Iterator[Flaw]:
    defined: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    bound: set[str] = set()
    for node in _at_top(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defined[node.name] = node
        else:
            bound.update(_names_of(node))
    if name not in defined:
        if not bound & {name, "*"}:
            place, told = f"steps.{step}.run.function", f"its module has no function '{name}'."
            yield Flaw(place, "unknown_function", told, did_you_mean(name, defined))
        return
    arguments = defined[name].args
    named = [argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]]
    optional = {argument.arg for argument in arguments.args[len(arguments.args) - len(arguments.defaults) :]}
    optional |= {
        argument.arg for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default
    }
    for missing in named:
        if missing not in optional and missing not in spec.inputs:
            told = f"'{name}' needs the input '{missing}'."
            yield Flaw(f"steps.{step}.inputs.{missing}", "missing_input", told, "Bind it to a value.")
    if arguments.kwarg is None:
        for unknown in sorted(spec.inputs.keys() - set(named)):
            told = f"'{name}' takes no input '{unknown}'."
            yield Flaw(f"steps.{step}.inputs.{unknown}", "unknown_input", told, did_you_mean(unknown, named))


def _at_top(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield a module's statements, also those within `if`, `try` and `with`, but not what lies within functions."""
    for node in statements:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for part in ("body", "orelse", "finalbody"):
                yield from _at_top(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _at_top(handler.body)


def _names_of(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ClassDef):
        yield node.name
    else:
        yield from (
            name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        )
