"""Routes of pipelines."""

from modelops.domains.pipelines.schedules.routes import router as schedules
from modelops.domains.pipelines.triggers.routes import router as triggers
from modelops.kernel.edge import Router

router = Router("pipelines")
router.include_router(schedules)
router.include_router(triggers)
