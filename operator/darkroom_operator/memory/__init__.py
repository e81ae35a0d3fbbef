"""What is known of the cluster: read, stored, compared, and gathered for a decision."""
