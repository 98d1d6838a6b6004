"""One analysis of a rollout's stage: gathered in a transaction, made outside of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelops.domains.serving.analysis.analysis import analyse
from modelops.domains.serving.analysis.readings import Pair, TrafficReadings
from modelops.domains.serving.business import samples
from modelops.domains.serving.courses.strategies import Analysis, BusinessMetric, Canary
from modelops.domains.serving.rollouts import AnalysisResult
from modelops.domains.serving.rows import course_of, variants_of
from modelops.domains.serving.tables import DeploymentRow, RevisionRow, RolloutRow
from modelops.domains.serving.variants import CANDIDATE
from modelops.kernel.context import Context


@dataclass(frozen=True)
class Comparison:
    """What is compared: the figures of one look at one stage of one rollout."""

    rollout_id: str
    step: int
    look: int
    plan: Analysis
    pair: Pair
    since: datetime
    now: datetime

    def is_of(self, rollout: RolloutRow | None) -> bool:
        """Tell whether a rollout is still at this stage, and was not looked at since."""
        if rollout is None or rollout.id != self.rollout_id:
            return False
        return (rollout.step, rollout.looks + 1, rollout.began_at) == (self.step, self.look, self.since)


def comparison(
    ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow], rollout: RolloutRow | None
) -> Comparison | None:
    """Return the comparison that is due now, if one is."""
    now = ctx.clock.now()
    course = None if rollout is None else course_of(rollout)
    if rollout is None or course is None or course.began_at is None or not course.wants_analysis(now):
        return None
    analysis = course.strategy.analysis if isinstance(course.strategy, Canary) else None
    if analysis is None:
        return None
    champion = variants_of(revisions[rollout.from_revision])[0]
    candidate = variants_of(revisions[rollout.revision])[0].model_copy(update={"name": CANDIDATE})
    found = {}
    if TrafficReadings in ctx.ports:
        read = ctx.port(TrafficReadings)
        found = dict(read(ctx, row.id, rollout.revision, course.began_at, [champion, candidate]))
    names = [metric.metric for metric in analysis.metrics if isinstance(metric, BusinessMetric)]
    business = samples(ctx, row, rollout.revision, names, course.began_at, champion.name, CANDIDATE)
    pair = Pair(found.get(champion.name), found.get(CANDIDATE), business)
    return Comparison(rollout.id, course.step, course.looks + 1, analysis, pair, course.began_at, now)


def compared(found: Comparison) -> AnalysisResult:
    """Make a comparison."""
    return analyse(found.plan, found.pair, found.look, found.since, found.now)
