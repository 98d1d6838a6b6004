"""Schedules: when things begin by the clock, and what each due moment led to.

What belongs here: when something is due, what was missed, and who is told. What never does: what it is that begins, and
whether it may while an earlier one runs (that is in `beginnings`).
"""
