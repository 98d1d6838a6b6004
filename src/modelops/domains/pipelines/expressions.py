"""Bindings and conditions as text: `${steps.fit.score} > 0.9 and ${parameters.mode} in ["fast", "good"]`.

| written | is |
|---|---|
| `${parameters.x}`, `${steps.a.x}`, `${steps.a}`, `${item}` | a parameter, an output, the output `result`, the item |
| JSON, with texts in single quotes, too | a constant |
| `==` `!=` `<` `<=` `>` `>=` `in` `not in` | a comparison |
| `and`, `or`, `not`, brackets | as in Python; `and` binds closer than `or` |
"""

import json
import re
from typing import Any

from modelops.domains.pipelines.document import (
    AllOf,
    AnyOf,
    Binding,
    Comparison,
    Condition,
    FromItem,
    FromOutput,
    FromParameter,
    FromValue,
    Not,
    Truth,
)

MOST_NESTED = 50
"""Brackets and `not` within each other."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
_REFERENCE = re.compile(
    rf"\$\{{\s*(?:parameters\.(?P<parameter>{_NAME})|steps\.(?P<step>{_NAME})(?:\.(?P<output>{_NAME}))?|(?P<item>item))\s*\}}"
)
_OPERATOR = re.compile(r"==|!=|<=|>=|<|>|in\b|not\s+in\b")
_WORD = {word: re.compile(rf"{word}\b") for word in ("and", "or", "not")}
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_SPACE = re.compile(r"\s*")
_COMMA, _CLOSING = re.compile(","), re.compile(r"\]")
_DECODER = json.JSONDecoder()


class WrongExpression(ValueError):
    """A text is no binding or condition; the message says where and why."""


def parse_reference(text: str) -> Binding | None:
    """Return what `${…}` stands for; None if the text has no such mark.

    Raises:
        WrongExpression: it has one, and is not one.
    """
    found = _REFERENCE.fullmatch(text.strip())
    if found:
        return _binding(found)
    if "${" in text:
        raise WrongExpression(
            f"'{text}' is no reference: it is ${{parameters.x}}, ${{steps.a.x}} or ${{item}}, and nothing beside it."
        )
    return None


def write_reference(binding: Binding) -> str | None:
    """Return a binding as `${…}`; None for a constant."""
    if isinstance(binding, FromParameter):
        return f"${{parameters.{binding.parameter}}}"
    if isinstance(binding, FromOutput):
        return (
            f"${{steps.{binding.step}}}"
            if binding.output == "result"
            else f"${{steps.{binding.step}.{binding.output}}}"
        )
    return "${item}" if isinstance(binding, FromItem) else None


def parse_condition(text: str) -> Condition:
    """Return the condition that a text tells.

    Raises:
        WrongExpression: it tells none.
    """
    parser = _Parser(text)
    condition = parser.alternatives(0)
    parser.skip()
    if parser.at < len(text):
        raise parser.wrong("an operator, `and` or `or`")
    return condition


def write_condition(condition: Condition) -> str:
    """Return a condition as text."""
    if isinstance(condition, Comparison):
        return f"{_operand(condition.left)} {condition.operator} {_operand(condition.right)}"
    if isinstance(condition, Truth):
        return _operand(condition.true)
    if isinstance(condition, Not):
        return f"not {_bracketed(condition.negated, AllOf, AnyOf)}"
    if isinstance(condition, AllOf):
        return " and ".join(_bracketed(part, AllOf, AnyOf) for part in condition.all)
    return " or ".join(_bracketed(part, AnyOf) for part in condition.any)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.skip()
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def wrong(self, wanted: str) -> WrongExpression:
        rest = self.text[self.at : self.at + 20]
        where = f"before '{rest}'" if rest else "at its end"
        return WrongExpression(f"'{self.text[:200]}' is no condition: {wanted} is missing {where}.")

    def alternatives(self, depth: int) -> Condition:
        parts = [self.conjunction(depth)]
        while self.take(_WORD["or"]):
            parts.append(self.conjunction(depth))
        return parts[0] if len(parts) == 1 else AnyOf(any=parts)

    def conjunction(self, depth: int) -> Condition:
        parts = [self.negation(depth)]
        while self.take(_WORD["and"]):
            parts.append(self.negation(depth))
        return parts[0] if len(parts) == 1 else AllOf(all=parts)

    def negation(self, depth: int) -> Condition:
        if depth > MOST_NESTED:
            raise WrongExpression(f"A condition has at most {MOST_NESTED} brackets and `not` within each other.")
        if self.take(_WORD["not"]):
            return Not(negated=self.negation(depth + 1))
        self.skip()
        if self.text.startswith("(", self.at):
            self.at += 1
            inner = self.alternatives(depth + 1)
            self.skip()
            if not self.text.startswith(")", self.at):
                raise self.wrong("`)`")
            self.at += 1
            return inner
        left = self.operand()
        operator = self.take(_OPERATOR)
        if operator is None:
            return Truth(true=left)
        named: Any = " ".join(operator[0].split())
        return Comparison(left=left, operator=named, right=self.operand())

    def operand(self) -> Binding:
        reference = self.take(_REFERENCE)
        if reference:
            return _binding(reference)
        value = self.constant(0)
        try:
            return FromValue(value=value)
        except ValueError:  # of what lies deeper than pydantic goes
            raise self.wrong("a constant that is less deep") from None

    def constant(self, depth: int) -> Any:
        single = self.take(_SINGLE)
        if single:
            return re.sub(r"\\(.)", r"\1", single[1])
        self.skip()
        if self.text.startswith("[", self.at) and depth < MOST_NESTED:
            return self.items(depth + 1)
        try:
            value, self.at = _DECODER.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            raise self.wrong("a reference such as ${steps.a.x}, or a constant") from None
        return value

    def items(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        while not self.take(_CLOSING):
            if found and not self.take(_COMMA):
                raise self.wrong("`,` or `]`")
            found.append(self.constant(depth))
        return found


def _binding(found: re.Match[str]) -> Binding:
    if found["parameter"]:
        return FromParameter(parameter=found["parameter"])
    if found["step"]:
        return FromOutput(step=found["step"], output=found["output"] or "result")
    return FromItem(item=True)


def _operand(binding: Binding) -> str:
    if isinstance(binding, FromValue):
        return json.dumps(binding.value, ensure_ascii=False)
    return write_reference(binding) or ""


def _bracketed(condition: Condition, *kinds: type) -> str:
    text = write_condition(condition)
    return f"({text})" if isinstance(condition, kinds) else text
