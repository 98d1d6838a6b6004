"""How pipelines enter the platform."""

from modelops.contracts.roles import Role
from modelops.domains.pipelines.beginnings.reconcilers import Beginner
from modelops.domains.pipelines.conduct import NAME, conductor
from modelops.domains.pipelines.holding import holds
from modelops.domains.pipelines.reconcilers import Clockwork, Jobs, Stories, Tidying, Workers
from modelops.domains.pipelines.routes import router
from modelops.domains.pipelines.schedules.reconcilers import Timekeeper
from modelops.domains.pipelines.triggers.reconcilers import Listener
from modelops.domains.pipelines.waking import Wakes
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="pipelines",
    router=router,
    permissions={
        "pipelines.read": Role.VIEWER,
        "pipelines.write": Role.DATA_SCIENTIST,
        "pipelines.approve": Role.ML_ENGINEER,
    },
    reconcilers=(Stories(), Workers(), Jobs(), Clockwork(), Tidying(), Timekeeper(), Listener(), Beginner()),
    workflows={NAME: conductor},
    holds=holds,
    provides={Wakes: Wakes()},
)
