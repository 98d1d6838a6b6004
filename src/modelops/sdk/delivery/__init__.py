"""Pipelines over what others made: a version brought to where it serves, and pipelines run one after the other.

What belongs here: their steps, and the classes that people use. What never does: how a rollout goes on, which is serving's.
"""

from modelops.sdk.delivery.deployment import DeploymentPipeline, DeploymentResult
from modelops.sdk.delivery.orchestrator import OrchestrationResult, PipelineOrchestrator

__all__ = ["DeploymentPipeline", "DeploymentResult", "OrchestrationResult", "PipelineOrchestrator"]
