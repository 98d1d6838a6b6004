"""A model's package on its way into memory: fetched, verified, compiled, loaded."""
