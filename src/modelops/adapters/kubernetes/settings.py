"""What the adapters are told about the cluster and what is to run there."""

import sys
from dataclasses import dataclass, field

from modelops.adapters.kubernetes.outputs import Outputs

MIB = 1024 * 1024


@dataclass(frozen=True)
class Site:
    """Where in a cluster the platform puts what it runs.

    Attributes:
        image: The image of jobs and of replicas: it has Python 3.9 or later and what the commands need.
        instance: Tells platforms that share a cluster apart: a label's value.
        namespace: The namespace, and what those of tenants begin with.
        python: The interpreter within the image, for commands that name the platform's own.
        logs: Where output is kept that was read from the cluster.
        pull_secret: The secret of each namespace with credentials for the registry of the image.
        quota: The hard limits of each tenant's namespace, as a ResourceQuota has them; empty for none.
        read_only_root: Whether the images' own files cannot be written.
        mounts: Folders of the nodes that every pod has at the same path, read-only: for a single machine whose software
            is in no image.
        cpu_reserved: What part of the CPUs that a process may use is reserved for it.
        tenant_policies: Whether a NetworkPolicy keeps other namespaces away from a tenant's pods.
    """

    image: str
    instance: str
    namespace: str
    logs: Outputs
    python: str = "python3"
    pull_secret: str | None = None
    quota: dict[str, str] = field(default_factory=dict)
    read_only_root: bool = True
    mounts: tuple[str, ...] = ()
    cpu_reserved: float = 1.0
    tenant_policies: bool = True

    def command(self, argv: tuple[str, ...]) -> list[str]:
        """Return a command as it is within the image: the platform's own interpreter is the image's there."""
        return [self.python, *argv[1:]] if argv and argv[0] == sys.executable else list(argv)
