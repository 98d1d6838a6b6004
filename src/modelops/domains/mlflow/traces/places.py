"""Which experiments and runs a client means, and where the files of an experiment's traces lie."""

from collections.abc import Iterable

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments import service
from modelops.domains.experiments.searching import Condition
from modelops.domains.mlflow.experiments import DEFAULT_ID, default_id, find_experiment, location_of
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_MANY = 10_000


def make_default(scope: Scope, experiment: str) -> None:
    """Make the project's default experiment if that is the one meant, and is missing."""
    if experiment == DEFAULT_ID:
        scope.actor.require("traces.write")
        default_id(scope)


def find_active(ctx: Context, experiment: str) -> str:
    """Return the id of an experiment of this project.

    Raises:
        NotFound: it is none.
        InvalidInput: it is deleted.
    """
    found = find_experiment(ctx, experiment)
    if found.deleted_at is not None:
        raise InvalidInput(
            f"The experiment {found.id} must be in the 'active' state. Current state is deleted.",
            hint="Restore it first.",
        )
    return found.id


def locate(ctx: Context, experiments: Iterable[str]) -> dict[str, str]:
    """Return where each experiment keeps its files; one that is being removed is passed over."""
    found, _ = service.find_experiments(
        ctx, conditions=[Condition("attribute", "id", "IN", sorted(set(experiments)))], deleted=None, limit=_MANY
    )
    return {experiment.id: location_of(experiment) for experiment in found}


def find_run(ctx: Context, run: str) -> str:
    """Return the id of a run of this project. Raises NotFound if it is none."""
    return service.get_run(ctx, run).id
