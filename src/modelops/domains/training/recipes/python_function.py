"""Any Python function of an installed package as a job."""

import importlib
from typing import Annotated, Any

from pydantic import Field

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Json, Schema
from modelops.domains.training.recipe import JobContext
from modelops.domains.training.schemas import JobResult


class FunctionParameters(Schema):
    """What the recipe takes."""

    function: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$", description="`module:function`, called with the job.")]
    arguments: Annotated[dict[str, Json], Field(description="Keyword arguments.")] = {}


class PythonFunction:
    """Calls a function with the job (a `JobContext`) and keyword arguments; it may return a `JobResult` or its members."""

    name = "python-function"
    description = "Calls a function of an installed package with the job."
    Parameters = FunctionParameters

    def run(self, job: JobContext[FunctionParameters]) -> JobResult:
        """Call the function."""
        module, _, name = job.parameters.function.partition(":")
        try:
            function: Any = importlib.import_module(module)
            for part in name.split("."):
                function = getattr(function, part)
        except (ImportError, AttributeError) as wrong:
            raise InvalidInput(f"There is no function '{job.parameters.function}': {wrong}.") from wrong
        result = function(job, **job.parameters.arguments)
        return result if isinstance(result, JobResult) else JobResult.model_validate(result or {})


recipe = PythonFunction()
