"""The spool: what programs log lies here, a folder a run, until the platform has it.

What belongs here: the files, their records, and sending them in order. What never does: the program's side of a run
(`sdk/tracking.py`), and anything that decides what a run is.
"""
