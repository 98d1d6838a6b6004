"""MLflow's REST protocol over experiments, models and data, so that its unmodified clients work here.

What belongs here: the protocol's paths, payloads, errors and rules, and what only MLflow knows (logged models, traces, the
artifact proxy's tree). What never does: a second store of what experiments, models or data own; a rule of the platform.
"""
