"""Compute: what the platform runs work on, and whose turn it is.

What belongs here: pools of devices, the flavors they offer, the queues and cohorts that share them, workloads that wait and
that hold quota, and the decision who is admitted and who gives way. What never does: what a workload computes (training and
serving own that) and how its processes are started (adapters do that).
"""
