"""One program's part in a study: it asks for trials, reports on them, and tells how they ended."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from uuid import uuid4

import optuna

from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.domains.tuning.rules import StudyError, TrialEnded, TrialLost, is_active, is_better
from modelops.domains.tuning.schemas import (
    Beat,
    PrunerName,
    Study,
    TrialAnswer,
    TrialAsk,
    TrialReport,
    TrialState,
    TrialTell,
)
from modelops.sdk.client import Client
from modelops.sdk.tuning.blocks import Block, Lookout, Told
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
        self.block = Block()
        self._lookout = Lookout(self._look)
        self._asking = threading.RLock()
        self._asked, self._choice_s, self._others = 0, 0.0, False
        self._reached = False
        self._untold: Trial | None = None
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

    def ask(self, most: int | None = 1) -> Trial | None:
        """Return a trial to run, or None where there is none: `stop` says why.

        Of two workers that choose at once, the slower one chooses again and sees the other's point.

        Args:
            most: How many trials this program still wants, this one among them; None is as many as there are.
        """
        with self._asking:
            if self.mirror.cursor == 0:
                self.sync()
            trial = self._next(most)
        return trial or self._await_others()

    def go_on(
        self, trial: Trial, state: TrialState, values: Sequence[float] | None, most: int | None = 1
    ) -> Trial | None:
        """Tell how a trial ended and ask for the next: in one request, or, of trials that are quickly run, in one for many.

        Args:
            trial: It has ended.
            state: How it ended.
            values: One an objective, if it is complete.
            most: As of `ask`.
        """
        if self._choice_s > _SHORT_S:  # what was computed must not wait for that
            self.tell(trial, state, values)
            return self.ask(most)
        with self._asking:
            self._end(trial, state, values)
            following = self._next(most)
        return following or self._await_others()

    def allow_blocks(self) -> None:
        """Have trials that are quickly run asked for and told many at a time; for a program of one thread that asks."""
        self.block.allowed = True

    def settle(self) -> None:
        """Tell what has ended, and give back what is not begun."""
        with self._asking:
            if not self.block.is_empty:
                self._exchange(TrialAsk(holder=self.holder, key=self._key(), count=0, since=self.mirror.cursor))

    def _next(self, most: int | None) -> Trial | None:
        block = self.block
        if block.unbegun and not block.is_over and not self._reached and not self.stopping.is_set():
            return self._begin(block.unbegun.popleft())
        return self._ask_on(most)

    def _begin(self, number: int) -> Trial:
        """Begin a trial of the block."""
        self.mirror.expect(number)
        try:
            chosen = self._choose(number, "")
        except BaseException:
            self.mirror.drop()
            self.block.unbegun.appendleft(number)
            raise
        self.mirror.confirm(number, 1)
        self._untold = trial = Trial(self, chosen, number, 1, in_block=True)
        self._held[number] = trial
        return trial

    def _end(self, trial: Trial, state: TrialState, values: Sequence[float] | None, reason: str | None = None) -> None:
        """Keep how a trial ended until it is told."""
        now = time.monotonic()
        self._held.pop(trial.number, None)
        self._untold = None
        fields = {"number": trial.number, **self._told(trial, state, values, reason, trial.take_pending())}
        self.block.add(Told(fields, trial.began if trial.in_block else None, now), now - trial.began + self._choice_s)
        if state is TrialState.WAITING:
            self.mirror.give_back(trial.number)
            return
        self.mirror.end(trial.own_id, state, values)
        target = self.study.target
        if target is not None and values is not None:
            self._reached = values[0] == target or is_better(values[0], target, self.study.objectives[0].direction)

    def _look(self) -> bool:
        """Tell what is due, when a trial takes longer than a block lasts, and return whether more may become due."""
        with self._asking:
            untold = self._untold
            if not self.block.is_over:
                return untold is not None or not self.block.is_empty
            self.settle()
            if untold is not None:
                try:
                    self.report(untold)
                except (TrialLost, TrialEnded):
                    untold.lost = True
                self._untold = None
            return False

    def _await_others(self) -> Trial | None:
        """Wait while the budget is spent and workers elsewhere have trials: one that falls silent leaves its trial to this."""
        while self._others and not self.stopping.wait(min(1.0, self.study.lease_s / 3)):
            with self._asking:
                trial = self._ask_on(1)
            if trial is not None:
                return trial
        return None

    def _ask_on(self, most: int | None) -> Trial | None:
        salt = ""
        while self.block.ended or not self.stopping.is_set():
            size = 1 if salt or self.mirror.has_waiting or self._others else self.block.next_size(most)
            asked = self._ask_block(size) if size > 1 else self._ask(salt)
            if asked is not None or self.stop is not None:
                return asked
            if size == 1:
                salt = "" if self.study.sampler.name in NUMBERED else self.holder
        return None

    def _ask_block(self, size: int) -> Trial | None:
        """Ask for a block, and begin its first trial; without an answer and a reason, there is none for now."""
        ask = TrialAsk(holder=self.holder, key=self._key(), count=size, since=self.mirror.cursor)
        answer = self._exchange(ask)
        if answer.block:
            self.block.open(answer.block)
            self._start_beats()
            self._lookout.wake()
            return self._begin(self.block.unbegun.popleft())
        self.block.refuse()
        return self._took(answer, None)

    def _ask(self, salt: str) -> Trial | None:
        """Ask once; without an answer and a reason, others were faster."""
        base, number = self.mirror.cursor, self.mirror.next_number
        chosen = None if self.mirror.has_waiting or self._others else self._choose(number, salt)
        ask = TrialAsk(
            holder=self.holder,
            key=self._key(),
            parameters=None if chosen is None else plain(chosen.params),
            space={} if chosen is None or self.study.space is not None else _ranges(chosen),
            system={} if chosen is None else self.mirror.take_changed(chosen._trial_id),
            expected=None if salt or chosen is None else number,
            since=base,
        )
        answer = self._exchange(ask)
        given = answer.trial
        if given is None or chosen is None or given.attempt > 1 or given.parameters != ask.parameters:
            self.mirror.drop()
            chosen = None
        else:
            self.mirror.take_changed(chosen._trial_id)
            self.mirror.confirm(given.number, given.attempt)
        return self._took(answer, chosen)

    def _took(self, answer: TrialAnswer, chosen: optuna.Trial | None) -> Trial | None:
        """Return the trial of an answer, chosen as it was asked for or still to be."""
        given = answer.trial
        if given is None:
            self.stop = answer.stop
            self.mirror.forget_waiting()  # none did, as the platform says
            return None
        if chosen is None:
            chosen = self._take_up(self.mirror.adopt(given), given.number)
        trial = Trial(
            self,
            chosen,
            given.number,
            given.attempt,
            run_id=given.run_id,
            sent=given.parameters,
            attributes=given.attributes,
        )
        self._held[given.number] = trial
        self._start_beats()
        return trial

    def _key(self) -> str:
        self._asked += 1
        return f"{self.holder}-{self._asked}"

    def _exchange(self, ask: TrialAsk) -> TrialAnswer:
        """Send a question with all that is to be told, and take in the answer but for its trials."""
        ended, unbegun = self.block.take_told()
        now = time.monotonic()
        told = ask.model_copy(update={"ended": [one.as_end(now) for one in ended], "unbegun": unbegun})
        try:
            try:
                answer = self._patiently(lambda: self.client.tuning.ask_trial(self.study.id, told))
            except StudyError as refused:
                if not ended:
                    raise
                self._tell_apart(told, refused)
                ended = []
                told = told.model_copy(update={"ended": []})
                answer = self._patiently(lambda: self.client.tuning.ask_trial(self.study.id, told))
        except BaseException:
            self.block.put_back(ended, unbegun)
            raise
        self.mirror.apply(answer.changes)
        self.mirror.expect(answer.made)
        if answer.changes.more:
            self.sync()
        self._others = answer.wait and self.mirror.works_elsewhere(self._held)
        return answer

    def _tell_apart(self, told: TrialAsk, refused: StudyError) -> None:
        """Tell ends one by one, since of them all one was refused: a trial that is another's by now is dropped."""
        log.warning("how trials ended is told one by one: %s", refused)
        for end in told.ended:
            alone = TrialTell.model_validate(end.model_dump(exclude={"number"}))
            try:
                self._patiently(lambda n=end.number, one=alone: self.client.tuning.tell_trial(self.study.id, n, one))  # type: ignore[misc]
            except (TrialLost, TrialEnded) as lost:
                log.warning("trial %d is dropped: %s", end.number, lost)
                self.mirror.give_back(end.number)

    def _choose(self, number: int, salt: str) -> optuna.Trial:
        """Choose a point for a new trial, which lies in the mirror provisionally."""
        began = time.monotonic()
        chosen = self._suggest_all(self._study(number, salt).ask())
        self._choice_s = time.monotonic() - began
        return chosen

    def _take_up(self, trial_id: int, number: int) -> optuna.Trial:
        """Return a trial that waited; what it lacks of parameters is chosen."""
        return self._suggest_all(optuna.Trial(self._study(number, ""), trial_id))

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
        trial.is_told_of(heard.run_id)
        self.mirror.apply(heard.changes)
        self.stop = heard.stop or self.stop

    def run_of(self, trial: Trial) -> str | None:
        """Return the run of a trial of a block, which is made now if it was not."""
        if trial.number in self._held:
            self.report(trial)
            return trial.known_run_id
        self.settle()
        return self.client.tuning.get_trial(self.study.id, trial.number).run_id

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
        if self.block.allowed:
            with self._asking:
                self._end(trial, state, values, reason)
                self.settle()
            return
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
        self._untold = None
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
                if time.monotonic() > deadline or self.stopping.is_set() or self._closed.is_set():
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
        self._lookout.close()
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
