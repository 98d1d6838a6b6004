"""What runs a recipe: a module an engine, with a function `run(recipe, job) -> JobResult`.

Belongs here: what starts a recipe's processes or sessions, and ends them. Never here: the recipes themselves, and whatever
makes the trainer of a local recipe import an engine's library.
"""

from importlib import import_module

from modelops.domains.training.recipe import Recipe, engine_of
from modelops.domains.training.schemas import Engine, JobResult
from modelops.runtime.job import Job


def run(recipe: Recipe, job: Job) -> JobResult:
    """Run a recipe by the engine that it asks for.

    Raises:
        MissingExtra: the engine's library is not installed.
    """
    engine = engine_of(recipe)
    if engine is Engine.LOCAL:
        return recipe.run(job)
    result: JobResult = import_module(f"{__name__}.{engine}").run(recipe, job)
    return result
