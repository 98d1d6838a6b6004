"""How MLflow's protocol enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.mlflow import (
    experiment_search,
    experiments,
    history,
    lineage,
    logged_models,
    logging,
    proxy,
    registering,
    registry,
    runs,
    searching,
    server,
    unsupported,
    versions,
    workspaces,
)
from modelops.domains.mlflow.forgetting import forget_experiment
from modelops.domains.mlflow.holding import holds
from modelops.domains.mlflow.protocol import door
from modelops.domains.mlflow.traces import legacy, otlp
from modelops.domains.mlflow.traces import routes as traces
from modelops.kernel.manifest import Manifest

_ROOMS = (
    experiments,
    experiment_search,
    runs,
    logging,
    history,
    searching,
    registry,
    registering,
    versions,
    logged_models,
    lineage,
    proxy,
    traces,
    legacy,
    otlp,
    server,
    workspaces,
    unsupported,
)
"""Importing one adds its handlers to the door."""

manifest = Manifest(
    name="mlflow",
    door=door,
    permissions={"traces.read": Role.VIEWER, "traces.write": Role.DATA_SCIENTIST},
    on={"modelops.experiments.experiment_removed": forget_experiment},
    holds=holds,
)
