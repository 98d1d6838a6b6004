"""Routes of monitoring."""

from typing import Annotated

from fastapi import Query

from modelops.contracts.schemas import Page, UtcTime
from modelops.domains.monitoring import service
from modelops.domains.monitoring.schemas import Accepted, DriftReport, DriftRequest, SketchBatches, Traffic
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.problems import documented

router = Router("monitoring")

Moment = Annotated[UtcTime | None, Query(description="By default, the last 24 hours.")]


@router.post("/monitoring/sketches")
def ingest_sketches(ctx: Context, body: SketchBatches) -> Accepted:
    """Take in what runtimes saw; a batch that comes again is counted once."""
    return service.ingest_sketches(ctx, body)


@router.get("/monitoring/deployments/{deployment}/traffic")
def get_traffic(ctx: Context, deployment: Ref, since: Moment = None, until: Moment = None) -> Traffic:
    """Count what a deployment answered in a window."""
    return service.get_traffic(ctx, deployment, since, until)


@router.post("/monitoring/drift", status_code=201, responses=documented(500))
def detect_drift(ctx: Context, body: DriftRequest) -> DriftReport:
    """Compare a deployment's traffic in a window with its model's training data."""
    return service.detect_drift(ctx, body)


@router.get("/monitoring/drift")
def list_drift_reports(ctx: Context, page: Listing) -> Page[DriftReport]:
    """List drift reports, newest first."""
    return service.list_drift_reports(ctx, page)


@router.get("/monitoring/drift/{report}")
def get_drift_report(ctx: Context, report: Ref) -> DriftReport:
    """Return a drift report."""
    return service.get_drift_report(ctx, report)
