"""How MLflow's protocol enters the platform."""

from modelops.domains.mlflow import experiments, history, logging, runs, searching, unsupported
from modelops.domains.mlflow.protocol import door
from modelops.kernel.manifest import Manifest

_ROOMS = (experiments, history, logging, runs, searching, unsupported)  # importing one adds its handlers to the door

manifest = Manifest(name="mlflow", door=door)
