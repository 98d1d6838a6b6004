"""The trials of a study in memory, as Optuna's samplers and pruners look at them: a storage that stores nothing.

It is fed with what the platform tells. The one trial that is about to be asked for lies in it too, provisionally, under the
number that it would get.
"""

import copy
import math
import threading
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from modelops.domains.experiments.analysis_schemas import Direction
from modelops.domains.tuning import schemas
from modelops.sdk.tuning.kept import read_system, write_system
from modelops.sdk.tuning.ranges import distribution_of

_STATES = {
    schemas.TrialState.WAITING: TrialState.WAITING,
    schemas.TrialState.RUNNING: TrialState.RUNNING,
    schemas.TrialState.COMPLETE: TrialState.COMPLETE,
    schemas.TrialState.PRUNED: TrialState.PRUNED,
    schemas.TrialState.FAILED: TrialState.FAIL,
}
_STUDY = 0


class Mirror(BaseStorage):
    """A study's trials in memory. Thread-safe.

    Args:
        study: The study.
    """

    def __init__(self, study: schemas.Study) -> None:
        self.study = study
        self.cursor = 0
        self._space = {name: distribution_of(one) for name, one in (study.space or {}).items()}
        self._lock = threading.RLock()
        self._trials: dict[int, FrozenTrial] = {}
        self._ordered: list[FrozenTrial] | None = []
        self._attempts: dict[int, int] = {}
        self._waiting: set[int] = set()
        self._by_id: dict[int, FrozenTrial] = {}
        self._provisional: FrozenTrial | None = None
        self._last_id = self._highest = -1
        self._attributes: dict[str, Any] = {}
        self._changed: dict[int, dict[str, Any]] = {}

    @property
    def next_number(self) -> int:
        """Return the number that the next new trial gets, as far as is known here."""
        with self._lock:
            return self._highest + 1

    @property
    def has_waiting(self) -> bool:
        """Tell whether a trial waits for a worker, as far as is known here."""
        return bool(self._waiting)

    def forget_waiting(self) -> None:
        """Note that no trial waits for a worker."""
        with self._lock:
            self._waiting.clear()

    def works_elsewhere(self, own: Container[int]) -> bool:
        """Tell whether a trial runs that is none of these."""
        with self._lock:
            return any(
                trial.state is TrialState.RUNNING and number not in own for number, trial in self._trials.items()
            )

    def apply(self, changes: schemas.Changes) -> None:
        """Take in what changed on the platform."""
        with self._lock:
            for trial in changes.trials:
                self._take_in(trial)
            self.cursor = max(self.cursor, changes.cursor)

    def _take_in(self, trial: schemas.Trial) -> None:
        self._highest = max(self._highest, trial.number)
        known = self._trials.get(trial.number)
        if known is not None and self._attempts[trial.number] > trial.attempt:
            return
        again = known is not None and self._attempts[trial.number] < trial.attempt
        if trial.state is schemas.TrialState.WAITING:
            self._waiting.add(trial.number)
            self._forget(trial.number)
            return
        self._waiting.discard(trial.number)
        self._attempts[trial.number] = trial.attempt
        intermediate = {} if known is None or again else dict(known.intermediate_values)
        intermediate.update(trial.intermediate)
        params, distributions = self._parameters(trial)
        fresh = FrozenTrial(
            number=trial.number,
            state=_STATES[trial.state],
            value=None,
            values=_values(trial, intermediate),
            datetime_start=trial.started_at,
            datetime_complete=trial.ended_at,
            params=params,
            distributions=distributions,
            user_attrs=dict(trial.attributes),
            system_attrs=read_system(trial.system),
            intermediate_values=intermediate,
            trial_id=known._trial_id if known is not None else self._new_id(),
        )
        self._trials[trial.number] = self._by_id[fresh._trial_id] = fresh
        self._ordered = None

    def _parameters(self, trial: schemas.Trial) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return a trial's parameters in the order of the space, which JSON objects may have lost, with their ranges."""
        ranges = {**self._space, **{name: distribution_of(one) for name, one in trial.space.items()}}
        names = [name for name in ranges if name in trial.parameters]
        return {n: _typed(ranges[n], trial.parameters[n]) for n in names}, {n: ranges[n] for n in names}

    def adopt(self, trial: schemas.Trial) -> int:
        """Take in a trial that this program is to run, and return its id here; what it has of parameters is fixed."""
        with self._lock:
            self._take_in(trial)
            known = self._trials[trial.number]
            known.system_attrs["fixed_params"] = dict(trial.parameters)
            known.params, known.distributions = {}, {}
            return known._trial_id

    def expect(self, number: int) -> None:
        """Note the number that the next new trial gets, as the platform says."""
        with self._lock:
            self._highest = number - 1

    def confirm(self, number: int, attempt: int) -> None:
        """Note that the provisional trial is one of the study's, under the number that the platform gave it."""
        with self._lock:
            confirmed, self._provisional = self._provisional, None
            if confirmed is None:
                raise RuntimeError("No trial was about to be asked for.")
            confirmed.number = number
            self._highest = max(self._highest, number)
            if self._ordered and self._ordered[-1].number >= number:
                self._ordered = None
            elif self._ordered is not None:
                self._ordered.append(confirmed)
            self._trials[number] = confirmed
            self._attempts[number] = attempt

    def drop(self) -> None:
        """Forget the provisional trial."""
        with self._lock:
            if self._provisional is not None:
                self._by_id.pop(self._provisional._trial_id, None)
                self._provisional = None

    def give_back(self, number: int) -> None:
        """Forget a trial that this program does not run any more."""
        with self._lock:
            self._forget(number)

    def _forget(self, number: int) -> None:
        known = self._trials.pop(number, None)
        self._ordered = None
        self._attempts.pop(number, None)
        if known is not None:
            self._by_id.pop(known._trial_id, None)

    def take_changed(self, trial_id: int) -> dict[str, Any]:
        """Return what samplers and pruners have kept on a trial since the last time, as JSON."""
        with self._lock:
            return write_system(self._changed.pop(trial_id, {}))

    def put_back(self, trial_id: int, system: Mapping[str, Any]) -> None:
        """Take back what samplers and pruners have kept on a trial, and could not be sent."""
        with self._lock:
            self._changed[trial_id] = {**read_system(system), **self._changed.get(trial_id, {})}

    def end(self, trial_id: int, state: schemas.TrialState, values: Sequence[float] | None) -> None:
        """Note how a trial of this program ended."""
        with self._lock:
            known = self._by_id[trial_id]
            known.state = _STATES[state]
            known.values = _values_of(state, values, known.intermediate_values)
            known.datetime_complete = datetime.now(UTC)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # What Optuna asks of a storage.

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """There is one study, and the platform made it."""
        raise NotImplementedError

    def delete_study(self, study_id: int) -> None:
        """The platform deletes studies."""
        raise NotImplementedError

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Studies have no attributes here."""
        raise NotImplementedError

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Keep what a sampler remembers: each program its own, since it can be had from the trials again."""
        with self._lock:
            self._attributes[key] = value

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the one study."""
        return _STUDY

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the study's id on the platform: brackets of Hyperband are told by it."""
        return self.study.id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return which way each objective is better."""
        ways = {Direction.MAX: StudyDirection.MAXIMIZE, Direction.MIN: StudyDirection.MINIMIZE}
        return [ways[one.direction] for one in self.study.objectives]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return what samplers remember."""
        with self._lock:
            return dict(self._attributes)

    def get_all_studies(self) -> list[FrozenStudy]:
        """There is one study, and whoever asks has it."""
        raise NotImplementedError

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make the provisional trial, in place of one that was not confirmed."""
        with self._lock:
            self.drop()
            trial = FrozenTrial(
                number=self.next_number,
                state=TrialState.RUNNING,
                value=None,
                datetime_start=datetime.now(UTC),
                datetime_complete=None,
                params={},
                distributions={},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
                trial_id=self._new_id(),
            )
            self._provisional = self._by_id[trial._trial_id] = trial
            return trial._trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter of a trial of this program."""
        with self._lock:
            trial = self._by_id[trial_id]
            trial.params[param_name] = distribution.to_external_repr(param_value_internal)
            trial.distributions[param_name] = distribution

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Trials end on the platform."""
        raise NotImplementedError

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set an intermediate value of a trial of this program."""
        with self._lock:
            self._by_id[trial_id].intermediate_values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial of this program."""
        with self._lock:
            self._by_id[trial_id].user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep what a sampler or pruner notes on a trial; it is sent with the trial's next word."""
        with self._lock:
            self._by_id[trial_id].system_attrs[key] = value
            self._changed.setdefault(trial_id, {})[key] = value

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial itself, no copy: its number may change until it is confirmed."""
        with self._lock:
            return self._by_id[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials by number; those that wait are nobody's yet, and left out."""
        with self._lock:
            if self._ordered is None:
                self._ordered = [self._trials[number] for number in sorted(self._trials)]
            listed = [*self._ordered, *([self._provisional] if self._provisional is not None else [])]
            chosen = [trial for trial in listed if states is None or trial.state in states]
            return copy.deepcopy(chosen) if deepcopy else chosen


def _typed(distribution: BaseDistribution, value: Any) -> Any:
    """Return a value as its distribution has it: JSON knows no difference between 1 and 1.0."""
    if isinstance(distribution, FloatDistribution):
        return float(value)
    if isinstance(distribution, IntDistribution):
        return int(value)
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if choice == value), value)
    return value


def _values(trial: schemas.Trial, intermediate: Mapping[int, float]) -> list[float] | None:
    return _values_of(trial.state, trial.values, intermediate)


def _values_of(
    state: schemas.TrialState, values: Sequence[float] | None, intermediate: Mapping[int, float]
) -> list[float] | None:
    """Return a trial's values; for Optuna, one that was pruned has what it last reported."""
    if values is not None:
        return list(values)
    if state is schemas.TrialState.PRUNED and intermediate:
        last = intermediate[max(intermediate)]
        return None if math.isnan(last) else [last]
    return None
