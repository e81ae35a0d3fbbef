"""What is known of the cluster: read into our types, stored, and compared in full now and then."""
