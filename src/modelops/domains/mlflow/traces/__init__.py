"""MLflow's traces: spans as OTLP and MLflow's clients send them, what is told of a trace, and assessments of it.

What belongs here: the wire forms of OpenTelemetry, the traces' tables, their search, and the protocol's handlers for them. What
never does: experiments and runs, which are asked for through their own service.
"""
