"""Several deployers behind one port: each workload says which of them keeps it."""

from collections.abc import Mapping

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import Deployer, ReplicaObservation, WorkloadSpec


class DeployerByTarget:
    """A Deployer that hands each workload to the one of its target.

    Args:
        deployers: The deployers by target, at least one.
        usual: The target of workloads that name none.
    """

    def __init__(self, deployers: Mapping[str, Deployer], usual: str) -> None:
        self._deployers = dict(deployers)
        self._usual = usual
        self._seen: dict[str, str] = {}

    def apply(self, spec: WorkloadSpec) -> None:
        """Move the world one step towards `spec`, where it says. Raises InvalidInput for a target that there is not."""
        target = spec.target or self._usual
        if target not in self._deployers:
            raise InvalidInput(
                f"This platform does not deploy to '{target}'; it does to {', '.join(sorted(self._deployers))}.",
                hint="Set MODELOPS_KUBERNETES_IMAGE, and a kubeconfig, to deploy to a cluster.",
            )
        self._seen[spec.name] = target
        self._deployers[target].apply(spec)

    def observe(self, name: str) -> list[ReplicaObservation]:
        """Return what is seen of the workload's replicas, wherever it is."""
        return self._of(name).observe(name)

    def scaled(self, name: str) -> int | None:
        """Return how many replicas the world itself wants of the workload, if it does."""
        return self._of(name).scaled(name)

    def log(self, name: str, index: int, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return up to `limit` bytes of a replica's output from `offset`."""
        return self._of(name).log(name, index, offset=offset, limit=limit)

    def remove(self, name: str, *, grace_s: float = 10.0) -> bool:
        """End the workload after draining; return True once nothing of it is left."""
        gone = self._of(name).remove(name, grace_s=grace_s)
        if gone:
            self._seen.pop(name, None)
        return gone

    def names(self) -> list[str]:
        """Return every workload that one of the deployers still keeps."""
        return sorted({name for deployer in self._deployers.values() for name in deployer.names()})

    def _of(self, name: str) -> Deployer:
        """Return the deployer that keeps a workload; where none does, any says so."""
        if name not in self._seen:
            for target, deployer in self._deployers.items():
                if name in deployer.names():
                    self._seen[name] = target
        return self._deployers[self._seen.get(name, self._usual)]
