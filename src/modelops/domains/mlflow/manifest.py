"""How MLflow's protocol enters the platform."""

from modelops.domains.mlflow import (
    experiments,
    history,
    lineage,
    logged_models,
    logging,
    proxy,
    registry,
    runs,
    searching,
    unsupported,
    versions,
)
from modelops.domains.mlflow.protocol import door
from modelops.kernel.manifest import Manifest

# Importing one adds its handlers to the door.
_ROOMS = (
    experiments,
    runs,
    logging,
    history,
    searching,
    registry,
    versions,
    logged_models,
    lineage,
    proxy,
    unsupported,
)

manifest = Manifest(name="mlflow", door=door)
