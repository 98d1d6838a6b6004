"""Checks run one after the other: `ValidationPipeline`."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json, jsonable
from modelops.domains.models.validation.columns import Column, plain
from modelops.domains.models.validation.schemas import CHECK_NAME, CheckResult, Task
from modelops.domains.models.validation.trial import Check, Contender, Trial, task_of

GROUP = "modelops.checks"
USUAL = ("metrics", "significance", "slices", "noise", "missing", "latency")
_MAX_FIGURES = 2_000


class ValidationPipeline:
    """Checks in an order. A check that cannot be run has failed, and the others are run nevertheless.

    Args:
        checks: Check objects, or texts such as `latency:budget_ms=5`; by default all that need no parameter.

    Raises:
        NotFound: no check of that name is installed.
        InvalidInput: a check does not take the parameters.
    """

    def __init__(self, checks: Sequence[Check | str] | None = None) -> None:
        self.checks = [parse_check(one) if isinstance(one, str) else one for one in checks or USUAL]
        for check in self.checks:
            if not re.fullmatch(CHECK_NAME, check.name):
                raise InvalidInput(f"'{check.name[:100]}' cannot name a check.", hint="Use a-z, 0-9, '.', '_' and '-'.")

    def run(self, trial: Trial) -> list[CheckResult]:
        """Run each check."""
        return [_result(check, trial) for check in self.checks]


def parse_check(text: str) -> Check:
    """Make a check from `name`, or `name:key=value,key=value`; a value is JSON where it reads as JSON, and text elsewhere.

    Raises:
        NotFound: no check of that name is installed.
        InvalidInput: it does not take the parameters.
    """
    name, _, listed = text.partition(":")
    make = plugins.load(GROUP, name.strip())
    given: dict[str, Any] = {}
    for part in _parts(listed):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidInput(
                f"'{part}' is no parameter of the form KEY=VALUE.", hint="Write it such as slices:by=region."
            )
        try:
            given[key.strip()] = json.loads(value)
        except ValueError:
            given[key.strip()] = value
    try:
        inspect.signature(make).bind(**given)
        check: Check = make(**given)
    except TypeError as wrong:
        takes = ", ".join(inspect.signature(make).parameters) or "nothing"
        raise InvalidInput(f"The check '{name}' cannot be made so: {wrong}.", hint=f"It takes: {takes}.") from None
    return check


def make_trial(
    candidate: Contender,
    champion: Contender | None,
    columns: Mapping[str, Column],
    target: str,
    task: Task | str | None = None,
) -> Trial:
    """Put what checks are given together.

    Raises:
        InvalidInput: the target is no column, or a row has no truth.
    """
    if target not in columns:
        raise InvalidInput(f"The data has no column '{target}'.", hint=f"It has: {', '.join(list(columns)[:20])}.")
    lacking = sum(plain(value) is None for value in columns[target].tolist())
    if lacking:
        raise InvalidInput(f"{lacking} rows have no truth in '{target}'.", hint="Leave them out.")
    if task is not None and task not in list(Task):
        raise InvalidInput(f"There is no task '{task}'.", hint=f"There are: {', '.join(Task)}.")
    chosen = Task(task) if task is not None else task_of(candidate, columns, target)
    return Trial(candidate, champion, columns, target, chosen)


def _parts(listed: str) -> list[str]:
    """Split at commas, save those inside of brackets or quotes."""
    parts, depth, quoted = [""], 0, False
    for sign in listed:
        quoted ^= sign == '"'
        depth += 0 if quoted else (sign in "[{") - (sign in "]}")
        if sign == "," and depth <= 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts if part.strip()]


def _result(check: Check, trial: Trial) -> CheckResult:
    try:
        found = check.run(trial)
        figures = {name: float(value) for name, value in list(found.figures.items())[:_MAX_FIGURES]}
        return CheckResult(
            name=check.name,
            passed=bool(found.passed),
            reason=_kept(found.reason),
            figures=figures,
            parameters=_parameters(check),
        )
    except InvalidInput as wrong:
        reason = f"It could not be run: {wrong}"
    except Exception as wrong:
        reason = f"It broke: {type(wrong).__name__}: {str(wrong)[:500]}"
    return CheckResult(name=check.name, passed=False, reason=_kept(reason))


def _kept(reason: str) -> str:
    return reason.replace("\x00", "")[:5_000]


def _parameters(check: Check) -> dict[str, Json]:
    own = {name: value for name, value in vars(check).items() if not name.startswith("_") and name != "name"}
    return {name: jsonable(value) if _is_json(value) else repr(value)[:1_000] for name, value in own.items()}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
