"""Training: jobs, and the recipes they run.

What belongs here: what to run on which data, and the truth about how it went. What never does: where processes run (a
job backend owns that) and what comes out of them (experiments and models own that).
"""
