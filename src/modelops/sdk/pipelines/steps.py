"""`@step`: a function that a pipeline runs, and that is called like any other outside of one."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.document import (
    Binding,
    FromItem,
    FunctionWork,
    Retries,
    StepResources,
    StepSpec,
    ValueType,
)
from modelops.domains.pipelines.packing import module_of
from modelops.sdk.pipelines.annotations import outputs_of
from modelops.sdk.pipelines.building import Draft, Handle, as_retries, current_draft
from modelops.sdk.pipelines.values import Value, as_binding, as_condition, item

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How a step is carried out."""

    name: str | None = None
    outputs: Mapping[str, ValueType | str] | None = None
    retries: int | Retries = 0
    timeout_s: float | None = 3600.0
    resources: StepResources = field(default_factory=StepResources)
    cache: bool = False
    even_if: Literal["succeeded", "not_failed", "ended"] = "succeeded"
    most_at_once: int | None = None
    after: Sequence[Any] = ()
    when: Any = None
    description: str | None = None


class Step(Generic[P, T]):
    """A function of a pipeline. Called in the function of a pipeline it writes a step down; elsewhere it just runs.

    Attributes:
        function: The function itself.
    """

    def __init__(self, function: Callable[P, T], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function, or add it to the pipeline that is written down: then it returns a `Handle`."""
        draft = current_draft()
        if draft is None:
            return self.function(*args, **kwargs)
        return cast("T", self._add(draft, self._bound(args, kwargs), None))

    def map(self, items: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run once for each item of a list, in parallel; `item` among the arguments stands for the item.

        Without an `item` it is the first argument that is not given. What follows from it is the list of all results, in the
        order of the items. Outside of a pipeline, it is that list at once.

        Args:
            items: A list, a parameter, or what another step or fan-out gave.
            args: The function's arguments.
            kwargs: The function's arguments by name.
        """
        draft = current_draft()
        if draft is None:
            return [self.function(*_put(one, args), **_put_named(one, self._with_item(args, kwargs))) for one in items]
        given = self._bound(args, self._with_item(args, kwargs))
        return self._add(draft, given, as_binding(items))

    def options(self, **options: Any) -> "Step[P, T]":
        """Return the step with other options: those of `@step`, and `name`, `after`, `when`, `even_if`, `most_at_once`."""
        return Step(self.function, _merged(self._options, options))

    def _add(self, draft: Draft, inputs: dict[str, Binding], foreach: Binding | None) -> Handle:
        function, options = self.function, self._options
        outputs = outputs_of(function) if options.outputs is None else options.outputs
        description = inspect.getdoc(function) if options.description is None else options.description
        spec = StepSpec(
            run=FunctionWork(function=reference_of(function)),
            inputs=inputs,
            outputs={name: ValueType(of) for name, of in outputs.items()},
            after=[handle.step_name for handle in options.after],
            when=None if options.when is None else as_condition(options.when),
            foreach=foreach,
            most_at_once=options.most_at_once if foreach is not None else None,
            even_if=options.even_if,
            retries=as_retries(options.retries),
            timeout_s=options.timeout_s,
            resources=options.resources,
            cache=options.cache,
            description=(description or "").partition("\n")[0],
        )
        name = options.name or function.__name__.strip("<>")
        handle = draft.add(name, spec, named=options.name is not None)
        draft.functions[handle.step_name] = function
        return handle

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Binding]:
        """Return what each parameter of the function is given."""
        signature = inspect.signature(self.function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as wrong:
            raise InvalidInput(
                f"Step '{self.function.__name__}' is not called as it is defined: {wrong}.",
                hint=f"It is {self.function.__name__}{signature}.",
            ) from None
        given: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                given |= value
            elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
                raise InvalidInput(
                    f"Parameter '{name}' of step '{self.function.__name__}' takes no names.",
                    hint="Inputs of steps have names: take `**values`, or one list.",
                )
            else:
                given[name] = value
        return {name: as_binding(value) for name, value in given.items()}

    def _with_item(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if any(_is_item(value) for value in (*args, *kwargs.values())):
            return dict(kwargs)
        names = list(inspect.signature(self.function).parameters)[len(args) :]
        free = [name for name in names if name not in kwargs]
        if not free:
            raise InvalidInput(f"Every argument of step '{self.function.__name__}' is given, and none is the `item`.")
        return {free[0]: item, **kwargs}


@overload
def step(function: Callable[P, T], /) -> Step[P, T]: ...
@overload
def step(
    *,
    name: str | None = None,
    outputs: Mapping[str, ValueType | str] | None = None,
    retries: int | Retries = 0,
    timeout_s: float | None = 3600.0,
    cpus: int | None = 1,
    memory_mb: int | None = None,
    pool: str = "",
    cache: bool = False,
    even_if: Literal["succeeded", "not_failed", "ended"] = "succeeded",
    most_at_once: int | None = None,
    description: str | None = None,
) -> Callable[[Callable[P, T]], Step[P, T]]: ...
def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a step of pipelines: `@step`, or `@step(retries=3, cache=True)`.

    Its annotations tell how values pass between steps: `pyarrow.Table` and data frames as Arrow, `Path` as a file, a
    `ModelVersion` as a model, everything else as JSON; `Annotated[…, ValueType.ARROW]` says it outright. A NamedTuple, a
    TypedDict or a dataclass that it returns has an output for each member.

    Args:
        function: The function.
        options: `name`; `outputs` (else of the annotations); `retries`, a number or `Retries`; `timeout_s` of an attempt;
            `cpus`, `memory_mb`, `pool`; `cache`, to take the outputs of an equal step before; `even_if` those before it
            did not succeed; `most_at_once` members of a fan-out; `description`, else the docstring's first line.
    """
    if function is not None:
        return Step(function, Options())
    chosen = _merged(Options(), options)
    return lambda decorated: Step(decorated, chosen)


def reference_of(function: Callable[..., Any]) -> str:
    """Return how a document names a function: `module:function`.

    Raises:
        InvalidInput: it lies within another function, where nobody can import it.
    """
    name = function.__qualname__
    if "<" in name:
        raise InvalidInput(
            f"Step '{name}' lies within another function.",
            hint="Define steps at the top of a module: workers import them from there.",
        )
    return f"{module_of(function)}:{name}"


def _merged(options: Options, changes: Mapping[str, Any]) -> Options:
    resources = {name: changes[name] for name in ("cpus", "memory_mb", "pool") if name in changes}
    rest = {name: value for name, value in changes.items() if name not in resources}
    unknown = rest.keys() - Options.__dataclass_fields__.keys()
    if unknown:
        raise InvalidInput(f"A step has no option '{min(unknown)}'.", hint="See `help(modelops.step)`.")
    if resources:
        rest["resources"] = StepResources.model_validate(options.resources.model_dump() | resources)
    return replace(options, **rest)


def _is_item(value: Any) -> bool:
    return isinstance(value, Value) and isinstance(as_binding(value), FromItem)


def _put(one: Any, args: Sequence[Any]) -> list[Any]:
    return [one if _is_item(value) else value for value in args]


def _put_named(one: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one if _is_item(value) else value for name, value in kwargs.items()}
