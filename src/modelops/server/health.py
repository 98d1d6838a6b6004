"""What `mops doctor` asks a platform: is each part in order, and what to do where it is not."""

import platform as machine
import shutil
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from sqlalchemy import select, text

from modelops.adapters.agents.tables import AgentRow
from modelops.contracts import plugins
from modelops.contracts.errors import MLOpsError
from modelops.contracts.platform import HealthCheck, VersionInfo
from modelops.contracts.ports import BlobStore
from modelops.kernel import outbox
from modelops.kernel.context import Context
from modelops.kernel.tables import LeaseRow
from modelops.kernel.work import JobRoom

_LOW_DISK_BYTES = 1024**3


def check_health(ctx: Context) -> list[HealthCheck]:
    """Run every check that a unit of work can."""
    return [_database(ctx), _disk(ctx), _outbox(ctx), _controllers(ctx), *_agents(ctx), *_plugins()]


def check_artifacts(blobs: BlobStore) -> HealthCheck:
    """Tell whether artifacts can be written and read, and where they lie. Talks to the world."""
    try:
        return HealthCheck(name="artifacts", healthy=True, detail=blobs.check())
    except MLOpsError as broken:
        return HealthCheck(name="artifacts", healthy=False, detail=str(broken))


def version_info() -> VersionInfo:
    """Return the versions of the platform and of what it stands on."""
    packages = {}
    for name in ("fastapi", "sqlalchemy", "pyarrow", "scikit-learn", "shap", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return VersionInfo(version=version("modelops"), python=machine.python_version(), packages=packages)


def _database(ctx: Context) -> HealthCheck:
    ctx.session.execute(text("SELECT 1"))
    kind = ctx.session.get_bind().dialect.name
    return HealthCheck(name="database", healthy=True, detail=f"{kind} answers.")


def _disk(ctx: Context) -> HealthCheck:
    free = shutil.disk_usage(ctx.settings.home).free
    healthy = free >= _LOW_DISK_BYTES
    detail = f"{free / 1024**3:.1f} GiB are free for {ctx.settings.home}."
    return HealthCheck(name="disk", healthy=healthy, detail=detail if healthy else f"{detail} Free some space soon.")


def _outbox(ctx: Context) -> HealthCheck:
    failed = outbox.given_up(ctx.session)
    detail = f"{failed} events were given up; the log tells why." if failed else "Every event reached its handlers."
    return HealthCheck(name="events", healthy=not failed, detail=detail)


def _controllers(ctx: Context) -> HealthCheck:
    now = ctx.clock.now()
    leases = ctx.session.scalars(select(LeaseRow)).all()
    stale = [row.name for row in leases if row.expires_at <= now]
    if not leases or stale:
        what = f"Nobody runs {', '.join(stale)}." if stale else "No controller has run yet."
        return HealthCheck(name="controllers", healthy=False, detail=f"{what} Start one with `mops up`.")
    return HealthCheck(name="controllers", healthy=True, detail=f"{len(leases)} loops are held and alive.")


def _agents(ctx: Context) -> list[HealthCheck]:
    """Tell which agents are heard of, where jobs run by way of agents."""
    if JobRoom not in ctx.ports:
        return []
    since = ctx.clock.now() - timedelta(seconds=ctx.settings.agent_timeout_s)
    agents = ctx.session.scalars(select(AgentRow).order_by(AgentRow.host)).all()
    heard = [f"{agent.host} ({agent.slots} slots)" for agent in agents if agent.heard_at > since and not agent.draining]
    detail = f"Heard of: {', '.join(heard)}." if heard else "No agent is heard of. Start one with `mops server agent`."
    return [HealthCheck(name="agents", healthy=bool(heard), detail=detail)]


def _plugins() -> list[HealthCheck]:
    checks = []
    for group in plugins.GROUPS:
        for name in plugins.discover(group):
            try:
                plugins.load(group, name)
            except MLOpsError as broken:
                checks.append(HealthCheck(name=f"plug-in {name}", healthy=False, detail=str(broken)))
    return checks or [HealthCheck(name="plug-ins", healthy=True, detail="All installed plug-ins load.")]
