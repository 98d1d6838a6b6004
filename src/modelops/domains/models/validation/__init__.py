"""Validation of a candidate before it is promoted: what a check is given, the checks, and how they are run.

What belongs here: figures of two models on one table, and the decision whether the candidate is good enough. What never
does: a database. It runs where the caller runs, and the platform keeps what it found. Further checks come in as entry
points of the group `modelops.checks`, as these do.
"""
