"""How many replicas a load needs, decided from what was seen of it."""
