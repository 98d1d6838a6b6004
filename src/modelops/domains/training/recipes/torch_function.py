"""Any Python function as a job in several processes of PyTorch."""

from typing import Annotated

from pydantic import Field

from modelops.domains.training.recipes.python_function import FunctionParameters, PythonFunction
from modelops.domains.training.schemas import Engine

Patience = Annotated[
    float, Field(gt=0, le=86_400, description="Seconds that a process waits for the others before the attempt fails.")
]


class TorchFunctionParameters(FunctionParameters):
    """What the recipe takes."""

    collective_timeout_s: Patience = 600.0


class TorchFunction(PythonFunction):
    """Calls a function in each process of a group; what the first process returns is the result."""

    name = "torch-function"
    description = "Calls a function of an installed package in each of several processes of PyTorch."
    engine = Engine.TORCH
    Parameters = TorchFunctionParameters


recipe = TorchFunction()
