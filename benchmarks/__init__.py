"""Figures against peers, in one run on one machine. Never a timed test."""
