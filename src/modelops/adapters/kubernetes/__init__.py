"""Jobs and workloads in a Kubernetes cluster, through lightkube (the extra `kubernetes`).

What belongs here: what holds the same contracts as the local engines, with pods instead of processes, from Kubernetes 1.20
on. What never does: state of the platform's own beside what the cluster keeps, or an import of lightkube elsewhere.
"""
