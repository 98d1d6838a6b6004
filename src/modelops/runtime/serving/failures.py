"""Errors that only a runtime has."""

from modelops.contracts.errors import MLOpsError


class ModelFailed(MLOpsError):
    """The model itself failed: it raised, or gave something that is no prediction for the rows. The runtime goes on."""

    code, status, title = "model_failed", 500, "The model failed"
    default_hint = "The replica's log has the traceback. Other requests are not affected."


class DeadlineExceeded(MLOpsError):
    """Nobody waits for the reply any more, by the request's own word or the deployment's limit."""

    code, status, title = "deadline_exceeded", 504, "The time is over"
    default_hint = "Allow more time in `X-Request-Timeout-Ms`, or give the deployment more replicas."
