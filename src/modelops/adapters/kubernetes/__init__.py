"""Jobs and workloads in a Kubernetes cluster, through lightkube (the extra `kubernetes`)."""
