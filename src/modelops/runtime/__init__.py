"""The data plane: the processes that run beside a model, `python -m modelops.runtime serve` and `… train`.

What belongs here: answering predictions and running recipes, from a document that says all there is to know. What never
does: a database, the control plane's code, or a decision that the control plane should make.
"""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""What numerical libraries take for the number of their threads."""
