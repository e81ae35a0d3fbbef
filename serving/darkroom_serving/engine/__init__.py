"""Takes the pictures of many requests a step further at a time."""
