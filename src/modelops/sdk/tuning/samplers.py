"""Optuna's samplers and pruners by name.

A sampler is made anew for each trial, its seed drawn from the study's and the trial's number: what it chooses depends on the
trials that it sees and on nothing that a process remembers, so another process goes on as this one would have.
"""

import hashlib
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.domains.tuning.rules import grid_of
from modelops.domains.tuning.schemas import Pruner, PrunerName, Sampler, SamplerName
from modelops.domains.tuning.schemas import Study as StudyInfo
from modelops.sdk.tuning.ranges import distribution_of

T = TypeVar("T")

NUMBERED = frozenset({SamplerName.GRID, SamplerName.QMC})
"""Samplers whose point is told by the trial's number."""

_PRUNERS: dict[PrunerName, Callable[..., BasePruner]] = {
    PrunerName.NONE: optuna.pruners.NopPruner,
    PrunerName.MEDIAN: optuna.pruners.MedianPruner,
    PrunerName.PERCENTILE: optuna.pruners.PercentilePruner,
    PrunerName.HYPERBAND: optuna.pruners.HyperbandPruner,
    PrunerName.SUCCESSIVE_HALVING: optuna.pruners.SuccessiveHalvingPruner,
    PrunerName.THRESHOLD: optuna.pruners.ThresholdPruner,
    PrunerName.WILCOXON: optuna.pruners.WilcoxonPruner,
}
_NEEDS = {SamplerName.GP: "torch", SamplerName.CMAES: "cmaes"}
_DEFAULTS: dict[PrunerName, dict[str, Any]] = {PrunerName.PERCENTILE: {"percentile": 25.0}}


def make_sampler(study: StudyInfo, number: int, salt: str = "") -> BaseSampler:
    """Return the sampler of a trial.

    Args:
        study: Names the sampler, its options and its seed.
        number: The number that the trial is to have.
        salt: Tells apart two workers that choose for the same number.

    Raises:
        InvalidInput: the sampler does not take these options.
        MissingExtra: a package that it needs is not installed.
    """
    told = study.sampler
    seed = (told.seed or 0) if told.name in NUMBERED else seed_of(told.seed or 0, number, salt)
    return _guarded(told, lambda: _sampler(study, told, seed, number))


def _sampler(study: StudyInfo, told: Sampler, seed: int, number: int) -> BaseSampler:
    options: dict[str, Any] = {**told.options, "seed": seed}
    if told.name in _NEEDS:
        importlib.import_module(_NEEDS[told.name])  # Optuna would miss it in the middle of a trial
    if told.name is SamplerName.RANDOM:
        return optuna.samplers.RandomSampler(**options)
    if told.name is SamplerName.GRID:
        return optuna.samplers.GridSampler({n: grid_of(one) or [] for n, one in (study.space or {}).items()}, **options)
    if told.name is SamplerName.QMC:
        return _Qmc(_always(study), number, **options)
    if told.name is SamplerName.GP:
        return optuna.samplers.GPSampler(**options)
    if told.name is SamplerName.CMAES:
        return optuna.samplers.CmaEsSampler(**{"warn_independent_sampling": False, **options})
    if told.name is SamplerName.NSGA2:
        return optuna.samplers.NSGAIISampler(**options)
    if told.name is SamplerName.NSGA3:
        return optuna.samplers.NSGAIIISampler(**options)
    conditional = study.space is None or any(one.when for one in study.space.values())
    return _Tpe(None if conditional else _always(study), **{"constant_liar": True, **options})


def _always(study: StudyInfo) -> dict[str, BaseDistribution]:
    """Return the ranges that every trial of a study has, by name, but for those that hold one value alone."""
    found = {name: distribution_of(one) for name, one in sorted((study.space or {}).items()) if not one.when}
    return {name: one for name, one in found.items() if not one.single()}


class _Tpe(optuna.samplers.TPESampler):
    """Takes the space from the study where that tells it beforehand, and does not look it up in every trial."""

    def __init__(self, space: Mapping[str, BaseDistribution] | None, **options: Any) -> None:
        super().__init__(**options)
        self._known_space = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are chosen together."""
        if self._known_space is None or self._group or not self._is_multivariate(study):
            return super().infer_relative_search_space(study, trial)
        return dict(self._known_space)


class _Qmc(optuna.samplers.QMCSampler):
    """A point of the sequence by the trial's number, not by a counter that workers would have to share."""

    def __init__(self, space: Mapping[str, BaseDistribution], number: int, **options: Any) -> None:
        super().__init__(**{"warn_independent_sampling": False, "scramble": True, **options})
        self._known_space = dict(space)
        self._known_number = number

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the study's space, where it is told beforehand."""
        return self._known_space or super().infer_relative_search_space(study, trial)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._known_number


def make_pruner(told: Pruner) -> BasePruner:
    """Return a pruner. Raises as `make_sampler`."""
    return _guarded(told, lambda: _pruner(told.name, dict(told.options)))


def _pruner(name: PrunerName, options: dict[str, Any]) -> BasePruner:
    if name is not PrunerName.PATIENT:
        return _PRUNERS[name](**{**_DEFAULTS.get(name, {}), **options})
    inner = options.pop("wrapped_pruner", None)
    wrapped = None if inner is None else make_pruner(Pruner.model_validate(inner))
    return optuna.pruners.PatientPruner(wrapped, **{"patience": 3, **options})


def _guarded(told: Sampler | Pruner, make: Callable[[], T]) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return make()
    except (TypeError, ValueError) as wrong:
        raise InvalidInput(f"'{told.name}' does not take these options: {wrong}.") from wrong
    except ImportError as missing:
        raise MissingExtra(
            f"'{told.name}' needs a package that is not installed: {missing}.",
            hint="Install it, or choose another sampler.",
        ) from missing


def seed_of(seed: int, number: int, salt: str) -> int:
    """Return a seed of 32 bits for a trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}:{salt}".encode()).digest()[:4], "big")
