"""The machines' answer to scaling by a cluster: there is none here."""

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import WorkloadSpec


def refuse_scaling(spec: WorkloadSpec) -> None:
    """Refuse a workload that a cluster is to scale. Raises InvalidInput."""
    if spec.scaling is not None:
        raise InvalidInput(
            f"No cluster scales {spec.name}: its replicas are processes of machines.",
            hint="Let the platform scale it by its requests, or deploy it to the target `kubernetes`.",
        )
