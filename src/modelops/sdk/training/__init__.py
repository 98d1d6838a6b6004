"""Training several algorithms on one dataset as a pipeline of the platform, and keeping the best.

What belongs here: the steps, how candidates are scored, and the class that people use. What never does: recipes of single
jobs, which are the domain's plug-ins.
"""

from modelops.sdk.training.pipeline import BestModel, Candidate, TrainingPipeline, TrainingResult

__all__ = ["BestModel", "Candidate", "TrainingPipeline", "TrainingResult"]
