"""One program's part in a study: it asks for trials, reports on them, and tells how they ended."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from uuid import uuid4

import optuna

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.domains.tuning.rules import is_active
from modelops.domains.tuning.schemas import (
    Beat,
    PrunerName,
    Study,
    TrialAsk,
    TrialEnd,
    TrialReport,
    TrialState,
    TrialTell,
)
from modelops.sdk.client import Client
from modelops.sdk.tuning.mirror import Mirror
from modelops.sdk.tuning.ranges import dimension_of, distribution_of, plain
from modelops.sdk.tuning.samplers import NUMBERED, make_pruner, make_sampler
from modelops.sdk.tuning.trial import Trial

log = logging.getLogger(__name__)

_GATHER_S = 0.1
"""How often at most a trial that can be pruned reports."""

_GATHER_UNPRUNED_S = 1.0
_SHORT_S = 0.05
_PATIENCE_S, _PAUSE_S = 600.0, 0.5

T = TypeVar("T")


class Sampling:
    """Asks and tells for one program. Thread-safe; close it, or use it as a context manager.

    Args:
        client: The connection.
        study: The study.
        holder: Who works; by default a name of its own.
    """

    def __init__(self, client: Client, study: Study, *, holder: str | None = None) -> None:
        self.client = client
        self.study = study
        self.holder = holder or f"worker-{uuid4().hex[:12]}"
        self.mirror = Mirror(study)
        self.stop: str | None = None
        self.stopping = threading.Event()
        self.gather_s = _GATHER_UNPRUNED_S if study.pruner.name is PrunerName.NONE else _GATHER_S
        self._pruner = make_pruner(study.pruner)
        self._asking = threading.Lock()
        self._asked, self._choice_s, self._others = 0, 0.0, False
        self._held: dict[int, Trial] = {}
        self._closed = threading.Event()
        self._beats: threading.Thread | None = None

    def sync(self) -> None:
        """Take in all that changed on the platform."""
        base = self.mirror.cursor
        while True:
            since = self.mirror.cursor
            changes = self._patiently(
                lambda since=since: self.client.tuning.list_changes(  # type: ignore[misc]
                    self.study.id, since=since, base=base, holder=self.holder
                )
            )
            self.mirror.apply(changes)
            if not changes.more:
                return

    def ask(self) -> Trial | None:
        """Return a trial to run, or None where there is none: `stop` says why.

        Of two workers that choose at once, the slower one chooses again and sees the other's point.
        """
        with self._asking:
            if self.mirror.cursor == 0:
                self.sync()
            trial = self._ask_on(None)
        return trial or self._await_others()

    def go_on(self, trial: Trial, state: TrialState, values: Sequence[float] | None) -> Trial | None:
        """Tell how a trial ended and ask for the next, in one request where the choice of a point takes no time.

        Raises:
            TrialLost: it is another worker's by now, and no trial was asked for.
        """
        if self._choice_s > _SHORT_S:  # what was computed must not wait for that
            self.tell(trial, state, values)
            return self.ask()
        with self._asking:
            pending = trial.take_pending()
            ended = TrialEnd(number=trial.number, **self._told(trial, state, values, None, pending))
            self.mirror.end(trial.own_id, state, values)
            following = self._ask_on(ended)
        return following or self._await_others()

    def _await_others(self) -> Trial | None:
        """Wait while the budget is spent and workers elsewhere have trials: one that falls silent leaves its trial to this."""
        while self._others and not self.stopping.wait(min(1.0, self.study.lease_s / 3)):
            with self._asking:
                trial = self._ask_on(None)
            if trial is not None:
                return trial
        return None

    def _ask_on(self, ended: TrialEnd | None) -> Trial | None:
        salt = ""
        while ended is not None or not self.stopping.is_set():
            asked = self._ask(salt, ended)
            if ended is not None:
                self._held.pop(ended.number, None)
                ended = None
            if asked is not None or self.stop is not None:
                return asked
            salt = "" if self.study.sampler.name in NUMBERED else self.holder
        return None

    def _ask(self, salt: str, ended: TrialEnd | None) -> Trial | None:
        """Ask once; without an answer and a reason, others were faster."""
        base, number = self.mirror.cursor, self.mirror.next_number
        chosen = None if self.mirror.has_waiting or self._others else self._choose(number, salt)
        self._asked += 1
        ask = TrialAsk(
            holder=self.holder,
            key=f"{self.holder}-{self._asked}",
            parameters=None if chosen is None else plain(chosen.params),
            space={} if chosen is None or self.study.space is not None else _ranges(chosen),
            system={} if chosen is None else self.mirror.take_changed(chosen._trial_id),
            expected=None if salt or chosen is None else number,
            since=base,
            ended=ended,
        )
        answer = self._patiently(lambda: self.client.tuning.ask_trial(self.study.id, ask))
        given = answer.trial
        if given is None or chosen is None or given.attempt > 1 or given.parameters != ask.parameters:
            self.mirror.drop()
            chosen = None
        elif given is not None:
            self.mirror.confirm(given)
        self.mirror.apply(answer.changes)
        if answer.changes.more:
            self.sync()
        self._others = answer.wait and self.mirror.works_elsewhere(self._held)
        if given is None:
            self.stop = answer.stop
            self.mirror.forget_waiting()  # none did, as the platform says
            return None
        if chosen is None:
            chosen = self._take_up(self.mirror.adopt(given), given.number)
        trial = Trial(self, given, chosen)
        self._held[given.number] = trial
        self._start_beats()
        return trial

    def _choose(self, number: int, salt: str) -> optuna.Trial:
        """Choose a point for a new trial, which lies in the mirror provisionally."""
        began = time.monotonic()
        chosen = self._suggest_all(self._study(number, salt).ask())
        self._choice_s = time.monotonic() - began
        return chosen

    def _take_up(self, trial_id: int, number: int) -> optuna.Trial:
        """Return a trial that waited; what it lacks of parameters is chosen."""
        return self._suggest_all(optuna.Trial(self._study(number, f"{self.holder}-again"), trial_id))

    def _study(self, number: int, salt: str) -> optuna.Study:
        """Return the study as Optuna sees it, with the sampler of one trial."""
        sampler = make_sampler(self.study, number, salt)
        return optuna.Study(self.study.id, self.mirror, sampler=sampler, pruner=self._pruner)

    def _suggest_all(self, trial: optuna.Trial) -> optuna.Trial:
        chosen: dict[str, Any] = {}
        for name, dimension in (self.study.space or {}).items():
            if is_active(dimension, chosen):
                chosen[name] = suggest(trial, name, dimension)
        return trial

    def report(self, trial: Trial) -> None:
        """Send what a trial has reported and was not sent, and take in what others did."""
        pending = trial.take_pending()
        report = TrialReport(holder=self.holder, attempt=trial.attempt, since=self.mirror.cursor, **pending)
        try:
            heard = self._patiently(lambda: self.client.tuning.report_trial(self.study.id, trial.number, report))
        except BaseException:
            trial.put_back(pending)
            raise
        self.mirror.apply(heard.changes)
        self.stop = heard.stop or self.stop

    def tell(
        self,
        trial: Trial,
        state: TrialState,
        values: Sequence[float] | None = None,
        reason: str | None = None,
    ) -> None:
        """Tell how a trial ended; `waiting` gives it back.

        Raises:
            TrialLost: it is another worker's by now.
        """
        self._held.pop(trial.number, None)
        pending = trial.take_pending()
        tell = TrialTell(**self._told(trial, state, values, reason, pending))
        heard = self._patiently(lambda: self.client.tuning.tell_trial(self.study.id, trial.number, tell))
        if state is TrialState.WAITING:
            self.mirror.give_back(trial.number)
        else:
            self.mirror.end(trial.own_id, state, values)
        self.mirror.apply(heard.changes)

    def _told(
        self,
        trial: Trial,
        state: TrialState,
        values: Sequence[float] | None,
        reason: str | None,
        pending: dict[str, Any],
    ) -> dict[str, Any]:
        return {
            "holder": self.holder,
            "attempt": trial.attempt,
            "state": state,
            "values": None if values is None else list(values),
            "reason": reason,
            "since": self.mirror.cursor,
            "intermediate": pending["values"],
            **{name: value for name, value in pending.items() if name != "values"},
        }

    def drop(self, trial: Trial) -> None:
        """Forget a trial that is another's by now."""
        self._held.pop(trial.number, None)
        self.mirror.give_back(trial.number)
        self.sync()

    def _patiently(self, send: Callable[[], T]) -> T:
        """Send something that may be sent twice, and go on while the platform is away, until this program is to end."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return send()
            except Unavailable as away:
                if time.monotonic() > deadline or self.stopping.is_set():
                    raise
                log.warning("the platform is away, and asked again: %s", away.detail)
                self.stopping.wait(_PAUSE_S)

    def _start_beats(self) -> None:
        if self._beats is None:
            self._beats = threading.Thread(target=self._beat, name="modelops-trials", daemon=True)
            self._beats.start()

    def _beat(self) -> None:
        """Say that this program is alive until it is closed; what is another's by now is marked so."""
        while not self._closed.wait(self.study.lease_s / 3):
            held = dict(self._held)
            if not held:
                continue
            beat = Beat(holder=self.holder, trials={number: one.attempt for number, one in held.items()})
            try:
                heard = self.client.tuning.beat_trials(self.study.id, beat)
            except MLOpsError as away:
                log.warning("the platform was not told that trials go on: %s", away)
                continue
            for number in heard.lost:
                held[number].lost = True

    def close(self) -> None:
        """End the heartbeats. Trials that are held lapse."""
        self._closed.set()
        if self._beats is not None:
            self._beats.join()
            self._beats = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def suggest(trial: optuna.Trial, name: str, dimension: Any) -> Any:
    """Have a trial choose a value of a dimension."""
    if dimension.type == "categorical":
        return trial.suggest_categorical(name, list(dimension.choices))
    distribution: Any = distribution_of(dimension)
    if dimension.type == "int":
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _ranges(trial: optuna.Trial) -> dict[str, Any]:
    return {name: dimension_of(one) for name, one in trial.distributions.items()}
