"""Routes of pipelines."""

from modelops.domains.pipelines.schedules.routes import router as schedules
from modelops.kernel.edge import Router

router = Router("pipelines")
router.include_router(schedules)
