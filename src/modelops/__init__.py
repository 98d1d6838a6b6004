"""ModelOps runs the whole life of a model: on a laptop with one command and no server, on a cluster with the same code.

The names below are loaded at their first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "ActiveRun": "modelops.sdk.active_run",
    "BaseMLOpsComponent": "modelops.sdk.stack",
    "Client": "modelops.sdk.client",
    "DeploymentError": "modelops.contracts.errors",
    "DeploymentPipeline": "modelops.sdk.delivery",
    "DriftDetector": "modelops.domains.monitoring.detectors",
    "ExperimentComparison": "modelops.sdk.comparison",
    "ExperimentError": "modelops.contracts.errors",
    "ExperimentTracker": "modelops.sdk.tracking",
    "HyperparameterTuning": "modelops.sdk.tuning",
    "InferencePipeline": "modelops.sdk.inference",
    "MLOpsConfig": "modelops.sdk.stack",
    "MLOpsError": "modelops.contracts.errors",
    "MLOpsStack": "modelops.sdk.stack",
    "ModelChain": "modelops.sdk.chains",
    "ModelEnsemble": "modelops.sdk.ensembles",
    "ModelOpsClient": "modelops.sdk.client",
    "ModelRegistry": "modelops.sdk.registry",
    "ModelRegistryError": "modelops.contracts.errors",
    "ModelServing": "modelops.sdk.serving",
    "ModelValidation": "modelops.sdk.validation",
    "ModelVersion": "modelops.domains.models.schemas",
    "MonitoringError": "modelops.contracts.errors",
    "PipelineOrchestrator": "modelops.sdk.delivery",
    "Role": "modelops.contracts.roles",
    "TrialPruned": "modelops.sdk.tuning",
    "ModelDeployment": "modelops.sdk.serving",
    "compare_experiments": "modelops.sdk.comparison",
    "autolog": "modelops.sdk.autolog",
    "export_mlflow": "modelops.sdk.exchange",
    "import_mlflow": "modelops.sdk.exchange",
    "TrainingPipeline": "modelops.sdk.training",
    "ValidationPipeline": "modelops.domains.models.validation.pipeline",
    "approval": "modelops.sdk.pipelines",
    "create_mlops_stack": "modelops.sdk.stack",
    "deploy_model": "modelops.sdk.serving",
    "detect_drift": "modelops.domains.monitoring.detectors",
    "disable_debug_mode": "modelops.sdk.debugging",
    "enable_debug_mode": "modelops.sdk.debugging",
    "get_best_model": "modelops.sdk.comparison",
    "item": "modelops.sdk.pipelines",
    "job": "modelops.sdk.pipelines",
    "log_folds": "modelops.sdk.folds",
    "notify": "modelops.sdk.pipelines",
    "pipeline": "modelops.sdk.pipelines",
    "promote_model": "modelops.sdk.registry",
    "register_model": "modelops.sdk.registry",
    "rollback_deployment": "modelops.sdk.serving",
    "step_context": "modelops.sdk.step_context",
    "start_experiment": "modelops.sdk.tracking",
    "step": "modelops.sdk.pipelines",
    "submit_function": "modelops.sdk.jobs",
    "submit_job": "modelops.sdk.jobs",
    "verify_webhook": "modelops.contracts.messages",
    "when": "modelops.sdk.pipelines",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'modelops' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__"]
