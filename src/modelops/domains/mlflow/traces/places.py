"""Which experiment a client means."""

from collections.abc import Iterable

from modelops.contracts.errors import NotFound
from modelops.domains.experiments import service as experiments
from modelops.kernel.context import Context


def find_experiment(ctx: Context, experiment: str) -> str:
    """Return the id of an experiment of this project. Raises NotFound if it is none."""
    return experiments.get_experiment(ctx, experiment).id


def find_experiments(ctx: Context, named: Iterable[str]) -> list[str]:
    """Return the ids of those experiments that are in this project."""
    found = []
    for experiment in named:
        try:
            found.append(find_experiment(ctx, experiment))
        except NotFound:
            continue
    return found


def find_run(ctx: Context, run: str) -> str:
    """Return the id of a run of this project. Raises NotFound if it is none."""
    return experiments.get_run(ctx, run).id
