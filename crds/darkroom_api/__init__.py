"""The API that every part of darkroom shares: job, status, manifests, names and the registry on disk."""
