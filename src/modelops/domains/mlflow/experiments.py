"""MLflow's experiments: the platform's own, found by MLflow's rules."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound
from modelops.domains.experiments import service
from modelops.domains.experiments.schemas import Experiment
from modelops.domains.experiments.searching import Condition
from modelops.domains.mlflow.names import (
    EXPERIMENT_NAME,
    EXPERIMENT_TAG,
    check_key,
    check_length,
)
from modelops.domains.mlflow.protocol import api, milliseconds, pairs
from modelops.kernel.context import Context
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

DEFAULT_ID, DEFAULT_NAME = "0", "Default"
"""The experiment that MLflow's clients log to when they name none; it is made in each project at the first need."""


class Pair(msgspec.Struct):
    """A label."""

    key: str
    value: str = ""


class CreateExperiment(msgspec.Struct):
    """The body of `experiments/create`."""

    name: str
    artifact_location: str = ""
    tags: list[Pair] = []


class ExperimentById(msgspec.Struct):
    """An experiment by id."""

    experiment_id: str


class ExperimentByName(msgspec.Struct):
    """An experiment by name."""

    experiment_name: str


class UpdateExperiment(msgspec.Struct):
    """The body of `experiments/update`."""

    experiment_id: str
    new_name: str


class SetExperimentTag(msgspec.Struct):
    """The body of `experiments/set-experiment-tag`."""

    experiment_id: str
    key: str
    value: str = ""


class DeleteExperimentTag(msgspec.Struct):
    """The body of `experiments/delete-experiment-tag`."""

    experiment_id: str
    key: str


@api("POST", "2.0/mlflow/experiments/create")
def create_experiment(ctx: Context, body: CreateExperiment) -> Answer:
    """Make an experiment."""
    _check_name(body.name)
    for tag in body.tags:
        _check_tag(tag.key, tag.value)
    if "#" in body.artifact_location or "?" in body.artifact_location:
        raise InvalidInput("The artifact location of an experiment cannot contain a query or a fragment.")
    try:
        made = service.make_experiment(
            ctx,
            body.name,
            tags={tag.key: tag.value for tag in body.tags},
            artifact_location=body.artifact_location.rstrip("/") or None,
        )
    except AlreadyExists as taken:
        raise AlreadyExists(f"Experiment(name={body.name}) already exists. {taken.detail}") from taken
    return {"experiment_id": made.id}


@api("GET", "2.0/mlflow/experiments/get")
def get_experiment(scope: Scope, query: ExperimentById) -> Answer:
    """Return an experiment."""
    if query.experiment_id == DEFAULT_ID:
        default_id(scope)
    with scope.work(write=False) as ctx:
        return {"experiment": as_json(find_experiment(ctx, query.experiment_id))}


@api("GET", "2.0/mlflow/experiments/get-by-name")
def get_experiment_by_name(scope: Scope, query: ExperimentByName) -> Answer:
    """Return an experiment by its name, deleted or not."""
    if query.experiment_name == DEFAULT_NAME:
        default_id(scope)
    with scope.work(write=False) as ctx:
        named = Condition("attribute", "name", "=", query.experiment_name)
        found, _ = service.find_experiments(ctx, conditions=[named], deleted=None, limit=1)
        if not found:
            raise NotFound(f"Could not find experiment with name '{query.experiment_name}'")
        return {"experiment": as_json(found[0])}


@api("POST", "2.0/mlflow/experiments/update")
def update_experiment(scope: Scope, body: UpdateExperiment) -> Answer:
    """Rename an experiment."""
    _check_name(body.new_name)
    with _work_on(scope, body.experiment_id) as (ctx, found):
        if found.deleted_at is not None:
            raise InvalidInput("Cannot rename a non-active experiment.")
        service.relabel_experiment(ctx, found.id, name=body.new_name)


@api("POST", "2.0/mlflow/experiments/delete")
def delete_experiment(scope: Scope, body: ExperimentById) -> Answer:
    """Delete an experiment and its runs."""
    with _work_on(scope, body.experiment_id) as (ctx, found):
        if found.deleted_at is not None:
            raise NotFound(f"No active Experiment with id={body.experiment_id} exists: it is deleted already.")
        service.delete_experiment(ctx, found.id)


@api("POST", "2.0/mlflow/experiments/restore")
def restore_experiment(scope: Scope, body: ExperimentById) -> Answer:
    """Restore an experiment and its runs."""
    with _work_on(scope, body.experiment_id) as (ctx, found):
        if found.deleted_at is None:
            raise NotFound(f"No deleted Experiment with id={body.experiment_id} exists: it is active.")
        service.restore_experiment(ctx, found.id)


@api("POST", "2.0/mlflow/experiments/set-experiment-tag")
def set_experiment_tag(scope: Scope, body: SetExperimentTag) -> Answer:
    """Set a tag of an experiment."""
    _check_tag(body.key, body.value)
    with _work_on(scope, body.experiment_id) as (ctx, found):
        service.relabel_experiment(ctx, _active(found).id, tags={body.key: body.value})


@api("POST", "2.0/mlflow/experiments/delete-experiment-tag")
def delete_experiment_tag(scope: Scope, body: DeleteExperimentTag) -> Answer:
    """Drop a tag of an experiment."""
    with _work_on(scope, body.experiment_id) as (ctx, found):
        if body.key not in _active(found).tags:
            raise NotFound(f"No tag with name: {body.key} in experiment with id {body.experiment_id}")
        service.relabel_experiment(ctx, found.id, tags={body.key: None})


def find_experiment(ctx: Context, experiment: str) -> Experiment:
    """Return an experiment of the project by id, deleted or not; `0` is its default one.

    Raises:
        NotFound: there is none, or the default one was not needed yet.
    """
    by_id = Condition("attribute", "id", "=", experiment)
    by_name = Condition("attribute", "name", "=", DEFAULT_NAME)
    wanted = by_name if experiment == DEFAULT_ID else by_id
    found, _ = service.find_experiments(ctx, conditions=[wanted], deleted=None, limit=1)
    if not found:
        raise NotFound(f"No Experiment with id={experiment} exists")
    return found[0]


def default_id(scope: Scope) -> str:
    """Return the id of the project's default experiment, which is made at the first need."""
    with scope.work(write=False) as ctx:
        try:
            return find_experiment(ctx, DEFAULT_ID).id
        except NotFound:
            pass
    try:
        with scope.work() as ctx:
            return service.make_experiment(ctx, DEFAULT_NAME).id
    except AlreadyExists:
        with scope.work(write=False) as ctx:
            return find_experiment(ctx, DEFAULT_ID).id


def resolve(ctx: Context, experiments: Iterable[str]) -> list[str]:
    """Return ids of experiments as they are, and of the default one, by which it is known here."""
    found = []
    for experiment in experiments:
        try:
            found.append(find_experiment(ctx, DEFAULT_ID).id if experiment == DEFAULT_ID else experiment)
        except NotFound:
            continue
    return found


def location_of(experiment: Experiment) -> str:
    """Return where the runs of an experiment keep their files."""
    return experiment.artifact_location or f"mlflow-artifacts:/{experiment.id}"


def as_json(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment as MLflow writes it."""
    return {
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": location_of(experiment),
        "lifecycle_stage": "active" if experiment.deleted_at is None else "deleted",
        "creation_time": milliseconds(experiment.created_at),
        "last_update_time": milliseconds(experiment.changed_at),
        "tags": pairs(experiment.tags),
    }


def view_of(view_type: str | int) -> bool | None:
    """Return whether a view shows the deleted ones alone (True), the active ones (False), or both (None).

    Raises:
        InvalidInput: there is no such view.
    """
    views: dict[str, bool | None] = {"1": False, "2": True, "3": None, "ACTIVE_ONLY": False, "DELETED_ONLY": True}
    views |= {"ALL": None, "0": False}
    if str(view_type) not in views:
        raise InvalidInput(f"Invalid value \"{view_type}\" for parameter 'view_type' supplied.")
    return views[str(view_type)]


@contextmanager
def _work_on(scope: Scope, experiment: str) -> Iterator[tuple[Context, Experiment]]:
    """Open a unit of work on an experiment; the default one is made first, as on MLflow's server it always is there.

    Raises:
        NotFound: there is none.
    """
    if experiment == DEFAULT_ID:
        default_id(scope)
    with scope.work() as ctx:
        yield ctx, find_experiment(ctx, experiment)


def _active(experiment: Experiment) -> Experiment:
    if experiment.deleted_at is not None:
        raise InvalidInput(
            f"The experiment {experiment.id} must be in the 'active' state. Current state is deleted.",
            hint="Restore it first.",
        )
    return experiment


def _check_name(name: str) -> None:
    if not name:
        raise InvalidInput(f"Invalid experiment name: '{name}'")
    check_length(name, EXPERIMENT_NAME, "name")


def _check_tag(key: str, value: str) -> None:
    check_key(key, "key")
    check_length(value, EXPERIMENT_TAG, "value")
