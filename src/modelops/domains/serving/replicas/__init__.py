"""The platform's calls to replicas: predictions, documents, figures."""
