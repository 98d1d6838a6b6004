"""The client of tuning."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Json, Page
from modelops.domains.experiments.analysis_rules import read_objectives
from modelops.domains.experiments.analysis_schemas import ParameterImportance
from modelops.domains.tuning.rules import ParameterOutside, TrialEnded, TrialLost
from modelops.domains.tuning.schemas import (
    Beat,
    Beaten,
    Changes,
    Study,
    StudyCreate,
    StudyUpdate,
    Trial,
    TrialAnswer,
    TrialAsk,
    TrialEnqueue,
    TrialHeard,
    TrialReport,
    TrialTell,
)

__all__ = ["ParameterOutside", "TrialEnded", "TrialLost", "Tuning"]  # the errors, so that a client can raise them


class Tuning(Group):
    """Studies and trials. Listings take `limit`, `cursor`, `filter` and `order_by`.

    To tune from a program, `HyperparameterTuning` is more convenient.
    """

    def create_study(self, name: str, *, objectives: Sequence[str] = (), **fields: Any) -> Study:
        """Make a study.

        Args:
            name: Its name in the project.
            objectives: Metrics with their directions, such as `["accuracy:max"]`; by default `value:min`.
            fields: Further fields of `StudyCreate`: `space`, `sampler`, `pruner`, `max_trials`, `experiment`, …
        """
        if objectives:
            fields["objectives"] = read_objectives(objectives)
        return self._post(Study, "/studies", StudyCreate(name=name, **fields))

    def list_studies(self, **page: Any) -> Page[Study]:
        """List the project's studies, newest first."""
        return self._list(Study, "/studies", **page)

    def get_study(self, study: str) -> Study:
        """Return a study, by name or id."""
        return self._get(Study, f"/studies/{study}")

    def update_study(self, study: str, *, revision: int | None = None, **fields: Any) -> Study:
        """Change a study's budget, description or tags; with `revision`, only while it is still at that one."""
        body = StudyUpdate(**fields).model_dump(exclude_unset=True)
        return self._patch(Study, f"/studies/{study}", body, revision)

    def delete_study(self, study: str) -> None:
        """Forget a study and its trials. Their runs stay."""
        self._delete(f"/studies/{study}")

    def stop_study(self, study: str) -> Study:
        """Stop a study: no trial begins any more."""
        return self._post(Study, f"/studies/{study}/stop")

    def resume_study(self, study: str) -> Study:
        """Let a stopped study go on.

        Raises:
            StudyError: its budget is spent.
        """
        return self._post(Study, f"/studies/{study}/resume")

    def enqueue_trial(
        self, study: str, parameters: Mapping[str, Json], *, attributes: Mapping[str, Json] | None = None
    ) -> Trial:
        """Put a trial with some or all of its parameters before those that a sampler chooses."""
        body = TrialEnqueue(parameters=dict(parameters), attributes=dict(attributes or {}))
        return self._post(Trial, f"/studies/{study}/trials", body)

    def list_trials(self, study: str, **page: Any) -> Page[Trial]:
        """List a study's trials by number."""
        return self._list(Trial, f"/studies/{study}/trials", **page)

    def get_trial(self, study: str, number: int) -> Trial:
        """Return a trial."""
        return self._get(Trial, f"/studies/{study}/trials/{number}")

    def get_best_trials(self, study: str, *, limit: int = 10) -> Page[Trial]:
        """Return the best completed trials, best first; of several objectives, the Pareto front."""
        return self._get(Page[Trial], f"/studies/{study}/best", limit=limit)

    def get_importance(self, study: str, *, objective: str | None = None) -> ParameterImportance:
        """Tell which parameters an objective depends on, or why that cannot be told."""
        return self._get(ParameterImportance, f"/studies/{study}/importance", objective=objective)

    def report_study(self, study: str) -> str:
        """Return a report on a study as one HTML file that needs nothing else."""
        return self._rest.request("GET", f"/studies/{study}/report").text

    def list_changes(
        self, study: str, *, since: int = 0, base: int | None = None, holder: str | None = None
    ) -> Changes:
        """List what changed on a study's trials since a cursor, but for what a holder did.

        Args:
            study: Its name or id.
            since: The cursor of an earlier answer.
            base: Where paging began: intermediate values are told from there on.
            holder: Who asks, and knows what it did.
        """
        return self._get(Changes, f"/studies/{study}/changes", since=since, base=base, holder=holder)

    def ask_trial(self, study: str, ask: TrialAsk) -> TrialAnswer:
        """Ask for a trial to run: one that waits, else a new one. The same `key` gets the same trial."""
        return self._post(TrialAnswer, f"/studies/{study}/ask", ask)

    def report_trial(self, study: str, number: int, report: TrialReport) -> TrialHeard:
        """Record intermediate values of a trial under way.

        Raises:
            TrialLost: it is another worker's by now.
        """
        return self._post(TrialHeard, f"/studies/{study}/trials/{number}/report", report)

    def tell_trial(self, study: str, number: int, tell: TrialTell) -> TrialHeard:
        """End a trial, or give it back. Telling twice is telling once.

        Raises:
            TrialLost: it is another worker's by now.
            TrialEnded: it has ended otherwise.
        """
        return self._post(TrialHeard, f"/studies/{study}/trials/{number}/tell", tell)

    def beat_trials(self, study: str, beat: Beat) -> Beaten:
        """Say that a worker is alive and still works on trials."""
        return self._post(Beaten, f"/studies/{study}/beat", beat)
