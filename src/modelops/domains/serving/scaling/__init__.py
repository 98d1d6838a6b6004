"""What makes the number of replicas follow the load."""
