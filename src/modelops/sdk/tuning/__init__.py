"""Tuning from a program: an objective is tried at points that Optuna's samplers choose in this process.

The platform keeps every trial and says who works on it; a program keeps a copy of them in memory, fed by what changed, for
samplers and pruners to look at. So any program may go on with a study, and many may work on one at once.
"""

from modelops.sdk.tuning.hyperparameters import HyperparameterTuning
from modelops.sdk.tuning.pruned import TrialPruned

__all__ = ["HyperparameterTuning", "TrialPruned"]
