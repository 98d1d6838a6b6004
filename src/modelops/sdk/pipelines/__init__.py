"""Pipelines from Python and YAML: what people write becomes a document, and the code of its steps an archive.

What belongs here: the ways to write a pipeline, and what packs it. What never does: what comes next in a run, which is the
domain's, and how a step is carried out, which is the workers'.
"""

from modelops.domains.pipelines.document import ValueType
from modelops.domains.pipelines.files import load_pipeline
from modelops.domains.pipelines.yaml_writing import write_yaml
from modelops.sdk.pipelines.annotations import Parameter
from modelops.sdk.pipelines.building import Handle, approval, job, notify, when
from modelops.sdk.pipelines.steps import Step, step
from modelops.sdk.pipelines.templates import Template, pipeline
from modelops.sdk.pipelines.values import item

__all__ = [
    "Handle",
    "Parameter",
    "Step",
    "Template",
    "ValueType",
    "approval",
    "item",
    "job",
    "load_pipeline",
    "notify",
    "pipeline",
    "step",
    "when",
    "write_yaml",
]
