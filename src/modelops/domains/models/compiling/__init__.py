"""Compiling: a faster form of a model for serving, which says to the last label what the model itself says.

What belongs here: taking models apart, the forms, the gate that each must pass, and the record of what runs and why. What
never does: anything that trains, or that opens a file which nobody verified. Nothing here runs in the control plane: it
reads the record, and nothing else.

`write_compiled` is for who registers a model that is in memory; `open_compiled` for who serves a package.
"""

from modelops.domains.models.compiling.compiler import Compiled, compile_model, libraries
from modelops.domains.models.compiling.packaged import open_compiled, write_compiled, write_form, write_plain

__all__ = ["Compiled", "compile_model", "libraries", "open_compiled", "write_compiled", "write_form", "write_plain"]
