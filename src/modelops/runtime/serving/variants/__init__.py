"""The variants of a deployment in one process: each by itself, and which of them a request is for."""
