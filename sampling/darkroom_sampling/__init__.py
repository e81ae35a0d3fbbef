"""Draws with diffusion models, a step at a time: the one sampler of trainer and serving."""
