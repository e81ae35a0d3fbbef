"""Which models there are, whether they are intact, and how they come into memory."""
