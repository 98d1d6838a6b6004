"""Autolog: what a library's own training calls say is recorded without a line of code about it.

What belongs here: the patches of libraries, and what they record. What never does: an error that reaches the program's own
training, or a patch that `stop` leaves behind.
"""

from modelops.sdk.autolog.patches import Autolog, autolog

__all__ = ["Autolog", "autolog"]
