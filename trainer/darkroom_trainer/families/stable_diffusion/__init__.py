"""Stable Diffusion 1 and 2: a UNet, one CLIP text encoder, noise or velocity."""
