"""How monitoring enters the platform."""

from modelops.contracts.roles import Role
from modelops.domains.monitoring.readings import traffic_readings
from modelops.domains.monitoring.routes import router
from modelops.domains.serving.analysis.readings import TrafficReadings
from modelops.kernel.manifest import Manifest

manifest = Manifest(
    name="monitoring",
    router=router,
    permissions={"monitoring.read": Role.VIEWER, "monitoring.write": Role.DATA_SCIENTIST},
    provides={TrafficReadings: traffic_readings},
)
