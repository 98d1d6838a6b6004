"""A trial as an objective sees it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.schemas import check_storable
from modelops.domains.tuning.rules import TrialLost
from modelops.sdk.tuning.pruned import Interrupted
from modelops.sdk.tuning.ranges import dimension_of, plain

if TYPE_CHECKING:
    from modelops.sdk.tuning.sampling import Sampling


class Trial:
    """A trial under way. Its parameters are in `params`, or `trial["name"]`; for one thread.

    An objective written for Optuna finds the methods that it knows.
    """

    def __init__(
        self,
        sampling: "Sampling",
        chosen: optuna.Trial,
        number: int,
        attempt: int,
        *,
        in_block: bool = False,
        run_id: str | None = None,
        sent: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.number = number
        self.attempt = attempt
        self.lost = False
        self.own_id = chosen._trial_id
        self.in_block = in_block
        self.known_run_id = run_id
        self._sampling = sampling
        self._chosen = chosen
        self._sent = dict(sent or {})
        self._values: dict[int, float] = {}
        self._attributes: dict[str, Any] = {}
        self._known_attributes = dict(attributes or {})
        self._lock = threading.Lock()
        self.began = self._sent_at = time.monotonic()

    @property
    def run_id(self) -> str | None:
        """Return the trial's run. One that is quickly run gets its run when it ends, or when it is asked for here."""
        if self.known_run_id is None:
            self.known_run_id = self._sampling.run_of(self)
        return self.known_run_id

    @property
    def params(self) -> dict[str, Any]:
        """Return the parameters chosen so far."""
        return self._chosen.params

    def __getitem__(self, name: str) -> Any:
        """Return a parameter."""
        return self._chosen._cached_frozen_trial.params[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Choose a number from `low` to `high`; in a study that has a space, as that says."""
        return float(self._suggest(name, lambda: self._chosen.suggest_float(name, low, high, step=step, log=log)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Choose a whole number from `low` to `high`; in a study that has a space, as that says."""
        return int(self._suggest(name, lambda: self._chosen.suggest_int(name, low, high, step=step, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of some values; in a study that has a space, as that says."""
        return self._suggest(name, lambda: self._chosen.suggest_categorical(name, choices))

    def _suggest(self, name: str, choose: Callable[[], Any]) -> Any:
        if self._sampling.study.space is None:
            with self._lock:
                return choose()
        chosen = self.params
        if name not in chosen:
            raise InvalidInput(
                f"The trial has no parameter '{name}'.",
                hint="The study's space was told when it was made; a parameter is left out where its condition fails.",
            )
        return chosen[name]

    def report(self, value: float, step: int) -> None:
        """Report a value on the way, for pruners to look at. It is sent with others a moment later."""
        self._check()
        with self._lock:
            self._values[int(step)] = float(value)
        self._chosen.storage.set_trial_intermediate_value(self.own_id, int(step), float(value))
        if time.monotonic() - self._sent_at >= self._sampling.gather_s:
            self._send()

    def should_prune(self) -> bool:
        """Tell whether the trial is not worth going on with; if so, raise `TrialPruned`."""
        self._check()
        if self._values and time.monotonic() - self._sent_at >= self._sampling.gather_s:
            self._send()
        return bool(self._chosen.should_prune())

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep something about the trial: any JSON.

        Raises:
            InvalidInput: it is none.
        """
        try:
            with self._lock:
                self._attributes[key] = check_storable(value)
        except ValueError as wrong:
            raise InvalidInput(f"The attribute '{key}' cannot be kept: {wrong}.") from wrong

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Return what is kept about the trial."""
        return {**self._known_attributes, **self._attributes}

    def take_pending(self) -> dict[str, Any]:
        """Return what was not sent yet, which counts as sent from now on."""
        own = self._sampling.study.space is None
        with self._lock:
            self._sent_at = time.monotonic()
            frozen = self._chosen._cached_frozen_trial
            fresh = {name: value for name, value in plain(frozen.params).items() if name not in self._sent}
            self._sent |= fresh
            self._known_attributes |= self._attributes
            values, self._values = self._values, {}
            attributes, self._attributes = self._attributes, {}
            return {
                "values": values,
                "parameters": fresh,
                "space": {name: dimension_of(frozen.distributions[name]) for name in fresh} if own else {},
                "attributes": attributes,
                "system": self._sampling.mirror.take_changed(self.own_id),
            }

    def is_told_of(self, run_id: str | None) -> None:
        """Note that the platform knows that the trial is under way, and its run."""
        self.known_run_id = run_id or self.known_run_id

    def put_back(self, pending: Mapping[str, Any]) -> None:
        """Take back what could not be sent."""
        with self._lock:
            self._values = {**pending["values"], **self._values}
            self._attributes = {**pending["attributes"], **self._attributes}
            for name in pending["parameters"]:
                self._sent.pop(name, None)
        self._sampling.mirror.put_back(self.own_id, pending["system"])

    def _send(self) -> None:
        self._sampling.report(self)

    def _check(self) -> None:
        if self.lost:
            raise TrialLost(f"The trial {self.number} was taken from this worker.")
        if self._sampling.stopping.is_set():
            raise Interrupted
