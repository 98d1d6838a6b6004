"""The serving runtime: one process, one revision of one deployment.

What belongs here: verifying and loading a package, answering over HTTP, and telling what was seen. What never does:
choosing which version to serve (the control plane does) and judging the data (monitoring does).
"""
