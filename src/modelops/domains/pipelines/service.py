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

__all__ = [
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
