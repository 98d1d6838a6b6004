"""The engines that need nothing but this machine: files for blobs, supervised processes for jobs and replicas.

What belongs here: what works on a Linux laptop after `pip install`, survives a `kill -9` of the platform, and holds the
same contracts as the clusters. What never does: a network service, or anything that runs inside the platform's process.
"""

from modelops.adapters.local.blobs import LocalBlobStore
from modelops.adapters.local.deployer import LocalDeployer
from modelops.adapters.local.jobs import LocalJobBackend

__all__ = ["LocalBlobStore", "LocalDeployer", "LocalJobBackend"]
