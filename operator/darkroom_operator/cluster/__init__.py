"""The only room that talks to Kubernetes: calls, their errors, and who may make them."""
