"""What a replica counts of itself and of the machine, for Prometheus and for who scales it."""
