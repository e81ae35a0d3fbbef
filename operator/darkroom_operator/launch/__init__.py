"""What starts and stops an attempt, and the manifests that are made for one."""
