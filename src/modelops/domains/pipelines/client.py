"""The client of pipelines."""

from modelops.domains.pipelines.schedules.client import Schedules


class Pipelines(Schedules):
    """Pipelines."""
