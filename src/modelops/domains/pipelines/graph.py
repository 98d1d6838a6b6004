"""A document's graph: which steps a step needs, what lies behind it, and an order in which all can be done."""

from collections.abc import Iterator, Mapping

from modelops.domains.pipelines.document import (
    AllOf,
    Binding,
    Comparison,
    Condition,
    FromOutput,
    Not,
    StepSpec,
    Truth,
)


def condition_bindings(condition: Condition) -> Iterator[tuple[str, Binding]]:
    """Yield what a condition looks at, with the place of each inside of it (`left`, `all[0].right`, …)."""
    if isinstance(condition, Comparison):
        yield "left", condition.left
        yield "right", condition.right
    elif isinstance(condition, Truth):
        yield "true", condition.true
    elif isinstance(condition, Not):
        for place, binding in condition_bindings(condition.negated):
            yield f"negated.{place}", binding
    else:
        name, parts = ("all", condition.all) if isinstance(condition, AllOf) else ("any", condition.any)
        for number, part in enumerate(parts):
            for place, binding in condition_bindings(part):
                yield f"{name}[{number}].{place}", binding


def comparisons(condition: Condition) -> Iterator[tuple[str, Comparison]]:
    """Yield the comparisons of a condition with the place of each inside of it; it is empty for the whole."""
    if isinstance(condition, Comparison):
        yield "", condition
    elif isinstance(condition, Not):
        for place, found in comparisons(condition.negated):
            yield f"negated.{place}", found
    elif not isinstance(condition, Truth):
        name, parts = ("all", condition.all) if isinstance(condition, AllOf) else ("any", condition.any)
        for number, part in enumerate(parts):
            for place, found in comparisons(part):
                yield f"{name}[{number}].{place}", found


def step_bindings(spec: StepSpec) -> Iterator[tuple[str, Binding]]:
    """Yield every binding of a step with its place (`inputs.x`, `foreach`, `when.left`, …)."""
    for name, binding in spec.inputs.items():
        yield f"inputs.{name}", binding
    if spec.foreach is not None:
        yield "foreach", spec.foreach
    if spec.when is not None:
        for place, binding in condition_bindings(spec.when):
            yield f"when.{place}", binding


def needs_of(spec: StepSpec) -> list[str]:
    """Return the steps that a step needs, each once: those whose outputs it takes or looks at, and those it is `after`."""
    taken = [binding.step for _, binding in step_bindings(spec) if isinstance(binding, FromOutput)]
    return list(dict.fromkeys([*taken, *spec.after]))


def dependents_of(steps: Mapping[str, StepSpec]) -> dict[str, list[str]]:
    """Return for each step those that need it, in the document's order. Unknown steps are passed over."""
    behind: dict[str, list[str]] = {name: [] for name in steps}
    for name, spec in steps.items():
        for need in needs_of(spec):
            if need in behind:
                behind[need].append(name)
    return behind


def downstream_of(steps: Mapping[str, StepSpec], start: str) -> set[str]:
    """Return a step and all that need it, directly or not: what runs again when a run is begun again from there."""
    behind = dependents_of(steps)
    found, left = {start}, [start]
    while left:
        for name in behind[left.pop()]:
            if name not in found:
                found.add(name)
                left.append(name)
    return found


def layers_of(steps: Mapping[str, StepSpec]) -> list[list[str]]:
    """Return the steps in layers: each needs only steps of the layers before. Steps in or behind a cycle are left out."""
    behind = dependents_of(steps)
    missing = {name: sum(need in steps for need in needs_of(spec)) for name, spec in steps.items()}
    layers = []
    layer = [name for name, count in missing.items() if not count]
    while layer:
        layers.append(layer)
        following = []
        for name in layer:
            for other in behind[name]:
                missing[other] -= 1
                if not missing[other]:
                    following.append(other)
        layer = following
    return layers


def cycle_of(steps: Mapping[str, StepSpec]) -> list[str] | None:
    """Return a cycle, each step needed by the next and the last by the first; None if there is none."""
    sound = {name for layer in layers_of(steps) for name in layer}
    rest = [name for name in steps if name not in sound]
    if not rest:
        return None
    trail: dict[str, int] = {}
    name = rest[0]
    while name not in trail:  # all that is left needs something that is left, so walking up must come round
        trail[name] = len(trail)
        name = next(need for need in needs_of(steps[name]) if need in steps and need not in sound)
    return list(trail)[trail[name] :][::-1]
