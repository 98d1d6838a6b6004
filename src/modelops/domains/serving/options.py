"""Traffic, strategies and scaling as the command line takes them, and rollouts as it shows them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from modelops.contracts.errors import InvalidInput
from modelops.contracts.terminal import say, show, show_rows, values
from modelops.domains.serving.courses.courses import Strategy, strategy_of
from modelops.domains.serving.courses.strategies import AllAtOnce, BlueGreen, Canary, Rolling
from modelops.domains.serving.policies.autoscaling import SHORT_NAMES, Off
from modelops.domains.serving.policies.clusterscaling import POLICIES, ScalingPolicy
from modelops.domains.serving.rollouts import Rollout
from modelops.domains.serving.schemas import TrafficPolicy

_KINDS: dict[str, type[AllAtOnce] | type[Rolling] | type[Canary] | type[BlueGreen]] = {
    "all_at_once": AllAtOnce,
    "rolling": Rolling,
    "canary": Canary,
    "blue_green": BlueGreen,
}

_SCALING = "a part of a scaling policy"
_VARIANT = "Write NAME=MODEL:VERSION:PERCENT or NAME=MODEL@ALIAS:PERCENT, such as `--challenger b=iris:2:20`."
_CANARY = "Write `--strategy canary --step 5:300 --step 50`: percentages, and how many seconds to stay at each."


def read_traffic(
    before: TrafficPolicy, challengers: list[str] | None, shadows: list[str] | None, sticky_header: str | None
) -> TrafficPolicy:
    """Return a traffic policy with what the options say of it."""
    given: dict[str, Any] = {}
    if challengers:
        given["challengers"] = [_variant(text, None) for text in challengers]
    if shadows:
        given["shadows"] = [_variant(text, 100.0) for text in shadows]
    if sticky_header is not None:
        given["sticky_header"] = sticky_header or None
    try:
        return TrafficPolicy.model_validate(before.model_dump() | given)
    except ValueError as wrong:
        raise InvalidInput(f"The traffic cannot be split so: {_said(wrong)}.", hint=_VARIANT) from wrong


def read_strategy(text: str | None, steps: list[str] | None) -> Strategy | None:
    """Return a strategy from its name, JSON or a file, with the steps of a canary; None where nothing is said."""
    if text is None and not steps:
        return None
    try:
        found = _strategy(text or "canary")
        if not steps:
            return found
        if not isinstance(found, Canary):
            raise InvalidInput("Only a canary has steps.", hint=_CANARY)
        return Canary.model_validate(found.model_dump() | {"steps": [_step(step) for step in steps]})
    except (OSError, ValueError) as wrong:
        raise InvalidInput(f"This is no strategy: {_said(wrong)}.", hint=_CANARY) from wrong


def show_rollout(rollout: Rollout, as_json: bool) -> None:
    """Show a rollout, its last analysis and its history."""
    if as_json:
        show(rollout, as_json=True)
        return
    document = rollout.model_dump(mode="json", exclude={"history", "analysis", "strategy"})
    show({**document, "strategy": rollout.strategy.kind}, as_json=False)
    if rollout.analysis is not None:
        say(f"The last analysis {rollout.analysis.outcome}:")
        show_rows(rollout.analysis.metrics, ["metric", "outcome", "why"], as_json=False, empty="")
    show_rows(rollout.history, ["at", "event", "step", "share", "reason", "by"], as_json=False, empty="")


def _strategy(text: str) -> Strategy:
    if text in _KINDS:
        return _KINDS[text]()
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    elif not text.lstrip().startswith("{"):
        raise InvalidInput(f"There is no strategy '{text}'.", hint=f"There are {', '.join(_KINDS)}, JSON, and @FILE.")
    return strategy_of(json.loads(text))


def _step(text: str) -> dict[str, Any]:
    share, _, pause = text.partition(":")
    return {"share": share, "pause_s": pause or None}


def _variant(text: str, share: float | None) -> dict[str, Any]:
    """Read NAME=MODEL:VERSION:PERCENT, or NAME=MODEL@ALIAS:PERCENT; without a percentage, `share`."""
    name, _, rest = text.partition("=")
    model, colon, last = rest.rpartition(":")
    has_share = colon and (share is None or model.count(":") or "@" in model)
    if not name or not rest or (share is None and not has_share):
        raise InvalidInput(f"'{text}' is no variant.", hint=_VARIANT)
    return {"name": name, "model": model, "share": last} if has_share else {"name": name, "model": rest, "share": share}


def _said(wrong: Exception) -> str:
    errors = getattr(wrong, "errors", None)
    if errors is None:
        return str(wrong)
    first = errors()[0]
    said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{'.'.join(map(str, first['loc']))}: {said}".lstrip(": ")


def policy_of(given: list[str] | None) -> ScalingPolicy | None:
    """Return the policy that `min=0,max=4` and the like describe; None where nothing is given, or `off`."""
    change = change_of(given, lambda: None)
    return None if change == "off" else change


def change_of(given: list[str] | None, before: Callable[[], ScalingPolicy | None]) -> ScalingPolicy | Off | None:
    """Return what is to become of a policy, of which what is not given stays; None where nothing is given.

    A policy may also be given whole, as JSON or in a file. One that is scaled by another from now on keeps its bounds.

    Args:
        before: Gets the policy that holds now.
    """
    if len(given or []) == 1 and (text := (given or [""])[0].strip()).startswith(("{", "@")):
        return _whole_policy(text)
    parts = [part.strip() for one in given or [] for part in one.split(",") if part.strip()]
    if not parts:
        return None
    if parts == ["off"]:
        return "off"
    if "off" in parts:
        raise typer.BadParameter("'off' stands alone: --autoscale off.")
    named = {SHORT_NAMES.get(name, name): value for name, value in values(parts, _SCALING).items()}
    kept = before()
    by = str(named.get("by", kept.by if kept else "requests"))
    if by not in POLICIES:
        raise typer.BadParameter(f"Nobody scales by '{by}'; there are {', '.join(POLICIES)}.")
    stays = kept.model_dump() if kept else {}
    if kept is not None and kept.by != by:
        stays = {"min_replicas": max(1, kept.min_replicas), "max_replicas": kept.max_replicas}
    return POLICIES[by].model_validate(stays | named)


def _whole_policy(text: str) -> ScalingPolicy:
    try:
        found = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
        return POLICIES[found.get("by", "requests")].model_validate(found)
    except (OSError, ValueError, KeyError, AttributeError) as wrong:
        hint = "Write a JSON object with `by`: requests, hpa or keda; docs/kubernetes.md has an example."
        raise InvalidInput(f"This is no scaling policy: {_said(wrong)}.", hint=hint) from wrong
