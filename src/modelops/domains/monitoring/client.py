"""The client of monitoring."""

from datetime import datetime
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.monitoring.schemas import DriftReport, DriftRequest, Traffic


class Monitoring(Group):
    """Traffic and drift of deployments. Listings take `limit`, `cursor`, `filter` and `order_by`."""

    def get_traffic(self, deployment: str, *, since: datetime | None = None, until: datetime | None = None) -> Traffic:
        """Count what a deployment answered in a window, the last 24 hours by default."""
        return self._get(Traffic, f"/monitoring/deployments/{deployment}/traffic", since=since, until=until)

    def detect_drift(
        self,
        deployment: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        false_alarm_rate: float = 0.01,
        minimum_effect: float = 0.1,
    ) -> DriftReport:
        """Compare a deployment's traffic in a window (the last 24 hours by default) with its model's training data.

        Raises:
            MonitoringError: nothing was answered in the window, or the model has no reference.
        """
        body = DriftRequest(
            deployment_id=deployment,
            since=since,
            until=until,
            false_alarm_rate=false_alarm_rate,
            minimum_effect=minimum_effect,
        )
        return self._post(DriftReport, "/monitoring/drift", body)

    def list_drift_reports(self, **page: Any) -> Page[DriftReport]:
        """List drift reports, newest first."""
        return self._list(DriftReport, "/monitoring/drift", **page)

    def get_drift_report(self, report: str) -> DriftReport:
        """Return a drift report."""
        return self._get(DriftReport, f"/monitoring/drift/{report}")
