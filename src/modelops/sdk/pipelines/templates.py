"""`@pipeline`: a function that calls steps, and so writes a document down."""

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, ParamSpec, overload

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.checking import check_document
from modelops.domains.pipelines.document import FromParameter, PipelineDocument
from modelops.domains.pipelines.packing import Packed, file_of, module_of, pack
from modelops.sdk.pipelines.annotations import parameters_of
from modelops.sdk.pipelines.building import Draft, drafting
from modelops.sdk.pipelines.values import Value

P = ParamSpec("P")
Notice = Literal["succeeded", "failed", "canceled"]


class Template:
    """A pipeline that is written in Python.

    Attributes:
        function: The function that writes it down.
        name: The pipeline's name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        workers: int = 2,
        timeout_s: float | None = None,
        notify: Sequence[Notice] = (),
        requirements: Path | str | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.requirements = None if requirements is None else Path(requirements)
        self._facts = {
            "description": (inspect.getdoc(function) or "") if description is None else description,
            "workers": workers,
            "timeout_s": timeout_s,
            "notify": list(notify),
        }

    @property
    def document(self) -> PipelineDocument:
        """Return the document, checked, without its code.

        Raises:
            InvalidPipeline: it cannot be carried out.
            InvalidInput: the function does what only a run can.
        """
        return self._written[0]

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """Return the function of each step that has one."""
        return dict(self._written[1].functions)

    def packed(self) -> Packed:
        """Return the document with the code of its steps, ready to be submitted.

        Raises:
            InvalidPipeline: a function is not where workers find it.
            TooLarge: the code is more than an archive takes.
        """
        files: dict[str, Path] = {}
        session: dict[str, Callable[..., Any]] = {}
        for function in self.functions.values():
            file = file_of(function.__module__)
            if file is None:
                session[function.__qualname__] = function
            else:
                files[module_of(function)] = file
        home = file_of(self.function.__module__)
        lock = self.requirements
        if lock is not None and home is not None:
            lock = home.parent / lock
        return pack(self.document, files=files, session=session, requirements=lock)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: a pipeline runs on a platform."""
        raise InvalidInput(
            f"'{self.name}' is a pipeline, and no function to call.",
            hint="Submit it with `client.pipelines`, or `mops pipelines run FILE`; its steps can be called alone.",
        )

    @cached_property
    def _written(self) -> tuple[PipelineDocument, Draft]:
        parameters = parameters_of(self.function)
        with drafting() as draft:
            self.function(**{name: Value(FromParameter(parameter=name), f"parameter '{name}'") for name in parameters})
        if not draft.steps:
            raise InvalidInput(f"The pipeline '{self.name}' calls no step.", hint="Decorate functions with `@step`.")
        document = PipelineDocument.model_validate(
            {"name": self.name, "parameters": parameters, "steps": draft.steps, **self._facts}
        )
        check_document(_without_cache(document))
        return document, draft


def _without_cache(document: PipelineDocument) -> PipelineDocument:
    """Return the document as it is checked before its code is packed: digests of functions are known then."""
    steps = {
        name: spec.model_copy(update={"cache": False}) if spec.run is not None else spec
        for name, spec in document.steps.items()
    }
    return document.model_copy(update={"steps": steps})


@overload
def pipeline(function: Callable[P, Any], /) -> Template: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    description: str | None = None,
    workers: int = 2,
    timeout_s: float | None = None,
    notify: Sequence[Notice] = (),
    requirements: Path | str | None = None,
) -> Callable[[Callable[P, Any]], Template]: ...
def pipeline(function: Callable[..., Any] | None = None, /, **facts: Any) -> Any:
    """Make a pipeline of a function that calls steps: `@pipeline`, or `@pipeline(name="nightly", workers=4)`.

    The function is called once, to write the document down, with stand-ins for its parameters: what steps return cannot be
    looked at in it. Its own parameters, with their annotations and defaults, are the pipeline's.

    Args:
        function: The function.
        facts: `name`, else the function's; `description`, else the docstring; `workers`, processes of a run at most;
            `timeout_s` of a run; `notify`, which ends of a run are told as events; `requirements`, a lock file beside the
            module, where the steps need an environment of their own.
    """
    if function is not None:
        return Template(function)
    return lambda decorated: Template(decorated, **facts)
