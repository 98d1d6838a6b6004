"""What begins without a person: from a cause (a schedule, a trigger) to a run or a job, exactly once.

What belongs here: targets, overlap, and the record of what each cause led to. What never does: when a cause arises.
"""
