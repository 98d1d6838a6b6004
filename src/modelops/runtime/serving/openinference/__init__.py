"""The Open Inference Protocol, version 2 (KServe, Triton), with its extension for binary tensors.

What belongs here: that protocol's messages and tensors. What never does: anything that the plain form also does.
"""
