"""A document while it is written down: the steps so far, and what stands for them in the function of the pipeline."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self, cast

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import (
    ApprovalWork,
    Condition,
    FromOutput,
    JobWork,
    NotifyWork,
    Retries,
    StepSpec,
)
from modelops.domains.training.schemas import Resources
from modelops.sdk.pipelines.values import Value, all_of, as_binding, as_condition

RESULT = "result"


@dataclass
class Draft:
    """A pipeline while it is written down. `functions` has for each function step what carries it out."""

    steps: dict[str, StepSpec] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)

    def add(self, name: str, spec: StepSpec, *, named: bool) -> "Handle":
        """Add a step; a name that is taken gets a number, unless somebody chose it.

        Raises:
            InvalidInput: the chosen name is taken.
        """
        chosen, number = name, 2
        while chosen in self.steps:
            if named:
                raise InvalidInput(f"There are two steps named '{name}'.", hint="Give each a name of its own.")
            chosen, number = f"{name}_{number}", number + 1
        own = [] if spec.when is None else [spec.when]
        self.steps[chosen] = spec.model_copy(update={"when": all_of([*self.conditions, *own])})
        return Handle(self, chosen)


class Handle:
    """A step that was written down. Its outputs are its attributes; of one with a single output it stands for that, too."""

    def __init__(self, draft: Draft, name: str) -> None:
        self._draft = draft
        self._name = name

    @property
    def step_name(self) -> str:
        """Return the step's name in the document."""
        return self._name

    def after(self, *others: Any) -> Self:
        """Let the step wait for others whose outputs it does not take."""
        spec = self._draft.steps[self._name]
        names = list(dict.fromkeys([*spec.after, *(other.step_name for other in others)]))
        self._draft.steps[self._name] = spec.model_copy(update={"after": names})
        return self

    def __getattr__(self, name: str) -> Value:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: Any) -> Value:
        outputs = self._draft.steps[self._name].results
        if not isinstance(name, str):
            return cast("Value", self._as_value()[name])
        if name not in outputs:
            raise InvalidInput(
                f"Step '{self._name}' has no output '{name}'; it has {', '.join(outputs) or 'none'}.",
                hint="Outputs are named by what the step's function is annotated to return.",
            )
        return Value(FromOutput(step=self._name, output=name), f"output '{name}' of step '{self._name}'")

    def _as_value(self) -> Value:
        outputs = self._draft.steps[self._name].results
        if len(outputs) != 1:
            raise InvalidInput(
                f"Step '{self._name}' has {len(outputs) or 'no'} outputs.",
                hint=f"Name one: {', '.join(f'{self._name}.{name}' for name in outputs)}."
                if outputs
                else "Use `.after(…)` to wait for it.",
            )
        return self[next(iter(outputs))]

    def __repr__(self) -> str:
        return f"<step '{self._name}'>"


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "invert", "bool", "iter", "len", "contains"):

    def _passed_on(handle: Handle, *others: Any, _method: str = f"__{_name}__") -> Any:
        return getattr(handle._as_value(), _method)(*others)

    setattr(Handle, f"__{_name}__", _passed_on)

_draft: ContextVar[Draft | None] = ContextVar("_draft", default=None)


def current_draft() -> Draft | None:
    """Return the document that is written down now, if one is."""
    return _draft.get()


@contextmanager
def drafting() -> Iterator[Draft]:
    """Write a document down; steps that are called within the block are added to it."""
    draft = Draft()
    token = _draft.set(draft)
    try:
        yield draft
    finally:
        _draft.reset(token)


@contextmanager
def when(condition: Any) -> Iterator[None]:
    """Run the steps of the block only if a condition is true in the run.

    Blocks may lie in one another. Where branches meet again, a step with `.options(even_if="not_failed")` runs after
    whichever was taken.
    """
    draft = _needed("when")
    draft.conditions.append(as_condition(condition))
    try:
        yield
    finally:
        draft.conditions.pop()


def approval(message: str, *, timeout_s: float | None = None, name: str | None = None, after: Any = None) -> Handle:
    """Wait for a person who may approve; what is to wait for it, is put `.after(…)` it. Outputs: `approved_by`, `comment`."""
    spec = StepSpec(approval=ApprovalWork(message=message, timeout_s=timeout_s), timeout_s=None)
    handle = _needed("approval").add(name or "approval", spec, named=name is not None)
    return handle if after is None else handle.after(after)


def notify(message: str, /, *, name: str | None = None, even_if: Any = "succeeded", **data: Any) -> Handle:
    """Tell the world: an event with this data, which webhooks can carry."""
    inputs = {key: as_binding(value) for key, value in data.items()}
    spec = StepSpec(notify=NotifyWork(message=message), inputs=inputs, even_if=even_if)
    return _needed("notify").add(name or "notify", spec, named=name is not None)


def job(
    recipe: str,
    dataset: Any = None,
    *,
    parameters: Mapping[str, Any] | Any = None,
    timeout_s: float | None = 3600.0,
    resources: Resources | None = None,
    queue: str | None = None,
    pool: str | None = None,
    priority: str | None = None,
    retries: int | Retries = 0,
    name: str | None = None,
) -> Handle:
    """Run a training job. Outputs: `run_id`, `model_version_id`, `model`, `metrics`, `summary`.

    Args:
        recipe: What it runs: `client.training.list_recipes()`.
        dataset: A dataset version (`name`, `name:3`, an id), or an output or parameter that tells one.
        parameters: The recipe's, or an output or parameter of the pipeline with all of them.
        timeout_s: For how long it may run.
        resources: Threads, memory and shares of GPUs that it may use; of its time, `timeout_s` says it.
        queue: A queue of the project; by default the one that gives what is asked for, if a queue's is asked for.
        pool: The pool whose devices it wants.
        priority: A priority class, for its place in the queue.
        retries: How often it is tried again.
        name: The step's; by default the recipe's.
    """
    inputs = {}
    known: dict[str, Json] = {}
    if isinstance(dataset, Value | Handle):
        inputs["dataset"] = as_binding(dataset)
    if isinstance(parameters, Value | Handle):
        inputs["parameters"] = as_binding(parameters)
    elif parameters is not None:
        known = getattr(as_binding(dict(parameters)), "value", {})
    work = JobWork(
        recipe=recipe,
        dataset=dataset if isinstance(dataset, str) else None,
        parameters=known,
        timeout_s=timeout_s,
        resources=resources,
        queue=queue,
        pool=pool,
        priority=priority,
    )
    spec = StepSpec(job=work, inputs=inputs, retries=as_retries(retries), timeout_s=None)
    return _needed("job").add(name or _as_name(recipe), spec, named=name is not None)


def as_retries(retries: "int | Retries") -> Retries:
    """Return retries that are given by their number alone."""
    return Retries(attempts=retries) if isinstance(retries, int) else retries


def _needed(what: str) -> Draft:
    draft = _draft.get()
    if draft is None:
        raise InvalidInput(f"`{what}` stands in the function of a pipeline.", hint="Decorate it with `@pipeline`.")
    return draft


def _as_name(text: str) -> str:
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in text)[:80]
    return name if name[:1].isalpha() or name[:1] == "_" else f"job_{name}"
