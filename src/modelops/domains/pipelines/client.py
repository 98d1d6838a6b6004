"""The client of pipelines."""

from modelops.domains.pipelines.schedules.client import Schedules
from modelops.domains.pipelines.triggers.client import Triggers


class Pipelines(Schedules, Triggers):
    """Pipelines."""
