"""The capabilities, a room each, stacked in floors: a domain imports only the floors below it.

What belongs here: everything one capability needs, from its payloads to its reconcilers. What never does: code that two
domains share (the kernel or the contracts own that), or a call upward (emit an event, or declare a Protocol).
"""
