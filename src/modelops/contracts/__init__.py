"""The words everyone shares: schemas, errors, ids, the clock, ports, plug-ins and the base of every client.

What belongs here: vocabulary that two rooms must agree on, and nothing that acts on its own. What never does: a
capability, a database, a web framework. Everything here imports in a few milliseconds and knows no other room.
"""
