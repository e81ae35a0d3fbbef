"""What the commands for a cluster share: kubectl, the state of a job in words, photos."""
