"""Tuning: studies and their trials.

What belongs here: what was tried, what is being tried and by whom, and what came of it. What never does: the choice of what
to try next (the sampler beside the program owns that) and what a trial computes (experiments keep its run).
"""
