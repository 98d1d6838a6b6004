"""Models: the registry. Versions that never change, their stages, aliases, approvals and signatures.

What belongs here: what a model is, where it came from, and whether it may go where it is asked to. What never does:
training it, serving it, or judging it on live data.
"""
