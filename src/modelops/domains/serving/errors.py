"""What only serving refuses with."""

from modelops.contracts.errors import DeploymentError, Unavailable


class NoReplicaReady(DeploymentError, Unavailable):
    """No replica of the deployment takes requests at this moment."""

    code, status, title = "no_replica_ready", 503, "No replica is ready"
    default_hint = "Try again in a moment; `mops deployments get-deployment NAME` shows the replicas."


class RuntimeTimeout(DeploymentError, Unavailable):
    """A replica took the request and did not answer in time."""

    code, status, title = "runtime_timeout", 503, "The replica did not answer in time"
    default_hint = "Send fewer rows at once, or give the deployment more replicas or processors."


class NothingToRollBackTo(DeploymentError):
    """No other revision of the deployment has ever served."""

    code, title = "nothing_to_roll_back_to", "There is no revision to go back to"
    default_hint = "`mops deployments list-revisions NAME` lists them; name one that exists, or deploy another version."


class NotSettled(DeploymentError):
    """A change of the deployment is still under way after the time that somebody was willing to wait."""

    code, title = "not_settled", "It is still under way"
    default_hint = "It goes on; `mops deployments get-deployment NAME` shows how far it is."


class IncompatibleVariant(DeploymentError):
    """A model cannot share the traffic of another: requests that fit the one do not fit the other."""

    code, title = "incompatible_variant", "The models do not take the same requests"
    default_hint = (
        "`mops models get-version NAME VERSION` shows a version's inputs; choose one that takes the champion's."
    )


class NoRollout(DeploymentError):
    """Nothing is being rolled out on the deployment."""

    code, title = "no_rollout", "Nothing is being rolled out"
    default_hint = "`mops deployments list-rollouts NAME` shows what there was."
