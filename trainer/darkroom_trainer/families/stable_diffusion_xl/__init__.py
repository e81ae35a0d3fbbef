"""Stable Diffusion XL: a UNet, two CLIP text encoders, and the size of the picture as a condition."""
