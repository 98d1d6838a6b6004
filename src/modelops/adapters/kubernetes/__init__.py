"""Jobs and workloads in a Kubernetes cluster, through lightkube (the extra `kubernetes`).

What belongs here: what is put into a cluster for an attempt or a replica (`pods`, `tenants`), the two ports over it (`jobs`,
`deployer`), and what is read there (`observing`, `logs`). What never does: who may run what, and why: domains decide that.
"""
