"""A Kubernetes of our own from its sources, for tests and for whoever has none at hand."""
