"""JSON documents from which a loader builds objects: the configuration of a `.keras` archive and the schema of skops."""

from collections.abc import Iterator
from typing import Any

from modelops.domains.models.scanning.findings import Notes, Unreadable

_DEEPEST = 200


def keras(document: Any, notes: Notes, where: str) -> None:
    """Note the classes and functions that a Keras configuration names, and the code that it holds.

    Raises:
        Unreadable: it nests deeper than any model.
    """
    for node in _mappings(document):
        kind, module, registered = node.get("class_name"), node.get("module"), node.get("registered_name")
        if not isinstance(kind, str):
            continue
        if kind in ("Lambda", "__lambda__"):
            notes.note(notes.unsafe, f"{where}: a Lambda layer, which is marshalled code")
        elif kind == "function":
            notes.note(notes.imports, f"{module}:{node.get('config')}")
        elif isinstance(module, str):
            notes.note(notes.imports, f"{module}:{kind}")
        elif isinstance(registered, str) and ">" in registered:
            notes.note(notes.unsafe, f"{where}: the class {registered[:200]}, which its author registered")


def skops(document: Any, notes: Notes, where: str) -> None:
    """Note the types and functions that a skops schema names; each of its nodes names one, and none is code.

    Raises:
        Unreadable: it nests deeper than any model.
    """
    for node in _mappings(document):
        module, name = node.get("__module__"), node.get("__class__")
        if module is not None or name is not None:
            notes.note(notes.imports, f"{module}:{name}")


def _mappings(document: Any) -> Iterator[dict[str, Any]]:
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _DEEPEST:
            raise Unreadable("its configuration is nested too deeply")
        if isinstance(node, dict):
            yield node
            waiting += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list):
            waiting += [(value, depth + 1) for value in node]
