"""The composition root: where settings, database, adapters and domains are put together into a running platform.

What belongs here: wiring, processes and migrations. What never does: a capability, or anything a client imports.
"""
