"""What a worker and the platform say to each other."""

from modelops.contracts.rest import Group
from modelops.domains.pipelines.schemas import StepBeat, StepClaim, StepOrders, StepReports, StepWork

_ANSWER_S = 30.0
_LAST_WORDS_S = 2.0


class Wire(Group):
    """The platform, as the workers of one run see it."""

    def claim(self, run: str, body: StepClaim) -> StepWork:
        """Ask for steps; the answer may take `body.wait_s`."""
        return self._post(StepWork, f"/pipeline-runs/{run}/steps/claim", body, timeout=body.wait_s + _ANSWER_S)

    def beat(self, run: str, body: StepBeat) -> StepOrders:
        """Say what this worker is at, and learn which of it is wanted no more."""
        return self._post(StepOrders, f"/pipeline-runs/{run}/steps/beat", body)

    def report(self, run: str, body: StepReports) -> StepOrders:
        """Say how attempts ended."""
        return self._post(StepOrders, f"/pipeline-runs/{run}/steps/report", body)

    def be_brief(self) -> None:
        """From now on do not wait long for a platform that is away."""
        self._rest.retry_for_s = _LAST_WORDS_S
