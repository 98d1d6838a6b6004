"""Models that Spark's MLlib trained, as numbers: what they say is computed by NumPy, without Spark and without Java.

Belongs here: `MllibModel`, its document, and the formulas of each kind of learner. Never here: anything of Spark, which only
the recipes import.
"""

from modelops.domains.models.mllib.model import MllibModel

__all__ = ["MllibModel"]
