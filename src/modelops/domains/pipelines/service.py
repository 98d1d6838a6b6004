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
from modelops.domains.pipelines.schedules.service import (
    create_schedule,
    delete_schedule,
    get_schedule,
    list_next_times,
    list_schedule_history,
    list_scheduled_jobs,
    list_schedules,
    preview_times,
    run_schedule,
    update_schedule,
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
from modelops.domains.pipelines.triggers.hooks import receive_hook
from modelops.domains.pipelines.triggers.service import (
    create_trigger,
    delete_trigger,
    get_trigger,
    list_trigger_history,
    list_triggers,
    rotate_trigger_secret,
    update_trigger,
)

__all__ = [
    "beat_steps",
    "cancel_run",
    "claim_steps",
    "clear_cache",
    "create_schedule",
    "create_trigger",
    "decide_step",
    "delete_pipeline",
    "delete_run",
    "delete_schedule",
    "delete_trigger",
    "get_pipeline",
    "get_pipeline_version",
    "get_run",
    "get_schedule",
    "get_step",
    "get_step_log",
    "get_trigger",
    "list_next_times",
    "list_pipeline_versions",
    "list_pipelines",
    "list_runs",
    "list_schedule_history",
    "list_scheduled_jobs",
    "list_schedules",
    "list_steps",
    "list_trigger_history",
    "list_triggers",
    "pause_run",
    "preview_times",
    "receive_hook",
    "register_pipeline",
    "report_steps",
    "rerun_run",
    "resume_run",
    "rotate_trigger_secret",
    "run_schedule",
    "start_run",
    "update_schedule",
    "update_trigger",
]
