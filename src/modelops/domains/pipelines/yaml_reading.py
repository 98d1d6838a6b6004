"""Pipelines in YAML: the document, with shorter ways to say what is said often.

| written | stands for |
|---|---|
| `run: steps:load`, `job: recipe`, `approval: text`, `notify: text` | the work with its one necessary member |
| `x: ${steps.a.x}` among inputs, `foreach: ${parameters.names}` | a binding; everything without `${…}` is a constant |
| `when: ${steps.fit.score} > 0.9` | a condition |
| `count: 3` among parameters | a parameter with this default, and its type |
| `retries: 2` | `retries: {attempts: 2}` |

All of the document's own forms are taken, too. Read as YAML 1.2 is: `yes` and `on` are texts, `1:30` is no number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelops.contracts.errors import MissingExtra
from modelops.domains.pipelines.checking import Flaw, InvalidPipeline, flaws_of, parse_document
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.expressions import WrongExpression, parse_condition, parse_reference

MOST_CHARACTERS = 8 * 1024 * 1024
_MOST_NODES = 2_000_000
_MOST_NESTED = 100

_FORMS = ({"value"}, {"parameter"}, {"step"}, {"step", "output"}, {"item"})
_SHORT_WORKS = {"run": "function", "job": "recipe", "approval": "message", "notify": "message"}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)


@dataclass(frozen=True)
class Read:
    """What a file says: the document without code, and the name of a lock file beside it."""

    document: PipelineDocument
    requirements: str | None


def read_yaml(text: str) -> Read:
    """Return the pipeline that a text tells, checked but for its code.

    Raises:
        InvalidPipeline: it tells none; each flaw names its place and line.
        MissingExtra: PyYAML is not installed.
    """
    tree = _Tree()
    raw = tree.parse(text)
    flaws: list[Flaw] = list(tree.flaws)
    requirements = raw.pop("requirements", None) if isinstance(raw, dict) else None
    plain = _unfold(raw, flaws)
    document = None
    if not flaws:
        try:
            document = parse_document(plain)
        except InvalidPipeline as wrong:
            flaws += [Flaw(**flaw) for flaw in wrong.extra["flaws"]]
        else:
            flaws += [flaw for flaw in flaws_of(document) if flaw.code != "digest_missing"]
    if requirements is not None and not isinstance(requirements, str):
        flaws.append(Flaw("requirements", "invalid_form", "it is no name of a lock file."))
    if flaws or document is None:
        raise InvalidPipeline.of([replace(flaw, line=flaw.line or tree.line_of(flaw.place)) for flaw in flaws])
    return Read(document, requirements)


@dataclass
class _Tree:
    """Plain data of YAML's nodes, and the line of each place."""

    lines: dict[str, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    _nodes: int = 0

    def parse(self, text: str) -> Any:
        try:
            import yaml
        except ModuleNotFoundError:
            raise MissingExtra(
                "YAML needs PyYAML, which is not installed.", hint='Install "modelops[server]".'
            ) from None
        if len(text) > MOST_CHARACTERS:
            raise InvalidPipeline.of([Flaw("", "too_large", f"it has more than {MOST_CHARACTERS} characters.")])
        try:
            loader = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader
            node = yaml.compose(text, loader)
            return {} if node is None else self._plain(node, "", 0)
        except yaml.YAMLError as wrong:
            mark = getattr(wrong, "problem_mark", None)
            said = getattr(wrong, "problem", None) or str(wrong).partition("\n")[0]
            line = None if mark is None else mark.line + 1
            raise InvalidPipeline.of([Flaw("", "no_yaml", f"it is no YAML: {said}.", line=line)]) from None
        except RecursionError:
            raise InvalidPipeline.of([Flaw("", "no_yaml", "it is nested too deeply.")]) from None

    def line_of(self, place: str) -> int | None:
        """Return the line of a place, or of what holds it."""
        while place and place not in self.lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return self.lines.get(place)

    def _plain(self, node: Any, place: str, depth: int) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if self._nodes > _MOST_NODES or depth > _MOST_NESTED:
            raise InvalidPipeline.of([Flaw(place, "too_large", "it has too many parts, or too deep ones.", line=line)])
        if node.id == "scalar":
            return _scalar(node)
        if node.id == "sequence":
            return [self._plain(part, f"{place}[{number}]", depth + 1) for number, part in enumerate(node.value)]
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.id != "scalar":
                self.flaws.append(Flaw(place, "invalid_form", "a key is no text.", line=key.start_mark.line + 1))
                continue
            if key.value == "<<" and not key.style:
                merged |= self._merged(value, place, depth)
                continue
            inner = f"{place}.{key.value}" if place else key.value
            if key.value in found:
                told = "it is there twice."
                self.flaws.append(Flaw(inner, "duplicate", told, "Keep one.", line=key.start_mark.line + 1))
            self.lines[inner] = key.start_mark.line + 1
            found[key.value] = self._plain(value, inner, depth + 1)
        return merged | found

    def _merged(self, node: Any, place: str, depth: int) -> dict[str, Any]:
        parts = node.value if node.id == "sequence" else [node]
        found: dict[str, Any] = {}
        for part in parts:
            plain = self._plain(part, place, depth + 1)
            if isinstance(plain, dict):
                found = plain | found
            else:
                self.flaws.append(Flaw(place, "invalid_form", "`<<` takes a mapping.", line=part.start_mark.line + 1))
        return found


def plain_scalar(text: str) -> Any:
    """Return what an unquoted text is in YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text) if len(text) < 400 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in (".inf", "+.inf", "-.inf", ".nan"):
        return float(text.replace(".", ""))
    return text


def stands_plain(value: Any) -> bool:
    """Tell whether a constant among inputs is read as itself, and not as a reference or another binding."""
    return not (isinstance(value, dict) and set(value) in _FORMS) and not _texts_of(value)


def _scalar(node: Any) -> Any:
    return node.value if node.style else plain_scalar(node.value)


def _unfold(raw: Any, flaws: list[Flaw]) -> Any:
    """Return the data in the document's own forms."""
    if not isinstance(raw, dict):
        return raw
    plain = dict(raw)
    if isinstance(plain.get("parameters"), dict):
        plain["parameters"] = {
            name: spec if isinstance(spec, dict) else _parameter(f"parameters.{name}", spec, flaws)
            for name, spec in plain["parameters"].items()
        }
    if isinstance(plain.get("steps"), dict):
        plain["steps"] = {
            name: _step(f"steps.{name}", spec, flaws) if isinstance(spec, dict) else spec
            for name, spec in plain["steps"].items()
        }
    return plain


def _parameter(place: str, default: Any, flaws: list[Flaw]) -> Any:
    kinds: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list"}
    if default is None:
        flaws.append(Flaw(place, "invalid_form", "it has neither type nor default.", "Write `{type: string}`."))
        return {"type": "string"}
    return {"type": kinds[type(default)], "default": default}


def _step(place: str, spec: dict[str, Any], flaws: list[Flaw]) -> dict[str, Any]:
    plain = dict(spec)
    for work, member in _SHORT_WORKS.items():
        if isinstance(plain.get(work), str):
            plain[work] = {member: plain[work]}
    if isinstance(plain.get("retries"), int) and not isinstance(plain["retries"], bool):
        plain["retries"] = {"attempts": plain["retries"]}
    if isinstance(plain.get("after"), str):
        plain["after"] = [plain["after"]]
    if isinstance(plain.get("inputs"), dict):
        plain["inputs"] = {
            name: _binding(f"{place}.inputs.{name}", value, flaws) for name, value in plain["inputs"].items()
        }
    if plain.get("foreach") is not None:
        plain["foreach"] = _binding(f"{place}.foreach", plain["foreach"], flaws)
    if isinstance(plain.get("when"), str):
        try:
            plain["when"] = parse_condition(plain["when"])
        except WrongExpression as wrong:
            flaws.append(Flaw(f"{place}.when", "invalid_condition", str(wrong)))
    return plain


def _binding(place: str, value: Any, flaws: list[Flaw]) -> Any:
    if isinstance(value, dict) and set(value) in _FORMS:
        return value
    for inner in _texts_of(value):
        try:
            reference = parse_reference(inner)
        except WrongExpression as wrong:
            hint = "Write {value: …} around a constant that has `${` in it."
            flaws.append(Flaw(place, "invalid_reference", str(wrong), hint))
            return {"value": value}
        if reference is not None and inner is value:
            return reference
        if reference is not None:
            told = "a constant cannot hold what is known in the run only."
            flaws.append(Flaw(place, "invalid_reference", told, "Bind each to an input of its own."))
            return {"value": value}
    return {"value": value}


def _texts_of(value: Any) -> list[str]:
    """Return the texts of a constant that have a mark of a reference."""
    if isinstance(value, str):
        return [value] if "${" in value else []
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return [text for part in parts for text in _texts_of(part)]
