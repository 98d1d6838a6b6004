"""Pipelines: templates, runs, steps, schedules and triggers.

What belongs here: what is to be done in which order, and the truth about how far each run came. What never does: how a
story survives a crash (the kernel's workflows own that), where processes run (a job backend), what a step computes.
"""
