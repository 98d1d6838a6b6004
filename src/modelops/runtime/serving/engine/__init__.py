"""The engine: every prediction of a replica passes here, whichever way its request came in.

What belongs here: putting requests into batches, asking the model for them, and handing each request its own reply. What
never does: bytes of HTTP, and who may ask.
"""
