"""What the tests share: a Kubernetes of our own, stand-ins, builders, and which tests run when."""
