"""What pipelines does. Context first, one verb a function; the edge commits. Each subject has a module of its own."""

from modelops.domains.pipelines.caching import clear_cache
from modelops.domains.pipelines.claims import beat_steps, claim_steps
from modelops.domains.pipelines.logs import get_step_log
from modelops.domains.pipelines.reports import report_steps
from modelops.domains.pipelines.reruns import rerun_run
from modelops.domains.pipelines.runs import (
    cancel_run,
    delete_run,
    get_run,
    list_runs,
    pause_run,
    resume_run,
    start_run,
)
from modelops.domains.pipelines.steps import decide_step, get_step, list_steps
from modelops.domains.pipelines.templates import (
    delete_pipeline,
    get_pipeline,
    get_pipeline_version,
    list_pipeline_versions,
    list_pipelines,
    register_pipeline,
)

__all__ = [
    "beat_steps",
    "cancel_run",
    "claim_steps",
    "clear_cache",
    "decide_step",
    "delete_pipeline",
    "delete_run",
    "get_pipeline",
    "get_pipeline_version",
    "get_run",
    "get_step",
    "get_step_log",
    "list_pipeline_versions",
    "list_pipelines",
    "list_runs",
    "list_steps",
    "pause_run",
    "register_pipeline",
    "report_steps",
    "rerun_run",
    "resume_run",
    "start_run",
]
