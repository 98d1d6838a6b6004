"""The data plane: the processes that run beside a model, `python -m modelops.runtime serve` and `… train`.

What belongs here: answering predictions and running recipes, from a document that says all there is to know. What never
does: a database, the control plane's code, or a decision that the control plane should make.
"""
