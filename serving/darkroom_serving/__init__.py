"""Ray Serve applications: guided image generation and image classification."""
