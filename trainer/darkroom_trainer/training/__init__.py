"""What runs in each worker: `loop` from top to bottom, and the parts that it names. Knows nothing of Ray."""
