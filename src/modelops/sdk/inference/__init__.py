"""Batch inference: a registered version asked for every row of a table that need not fit in memory.

What belongs here: reading the table, asking the model, and parts that survive a stop. What never does: how a model is loaded
or a format is read, which the registry's and the data's own modules know.
"""

from modelops.sdk.inference.pipeline import InferencePipeline, InferenceResult

__all__ = ["InferencePipeline", "InferenceResult"]
