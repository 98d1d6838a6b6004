"""Experiments: runs with parameters, metrics over steps, tags and artifacts.

What belongs here: what was tried and what came out. What never does: starting anything (training owns jobs) and deciding
what is good enough to ship (models owns stages and approvals).
"""
