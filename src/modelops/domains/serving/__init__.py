"""Serving: deployments, their revisions, and the reconciler that keeps the world as they say.

What belongs here: which version answers where, with how much, and the truth about whether it does. What never does:
answering a prediction itself (the runtime does) and judging predictions (monitoring does).
"""
