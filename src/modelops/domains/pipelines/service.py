"""What pipelines do."""

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
    "create_trigger",
    "delete_trigger",
    "get_trigger",
    "list_trigger_history",
    "list_triggers",
    "rotate_trigger_secret",
    "update_trigger",
    "receive_hook",
    "create_schedule",
    "delete_schedule",
    "get_schedule",
    "list_next_times",
    "list_schedule_history",
    "list_scheduled_jobs",
    "list_schedules",
    "preview_times",
    "run_schedule",
    "update_schedule",
]
