"""Longest prompts, where no file of a model says it."""

from typing import Final

Z_IMAGE_TOKENS: Final = 512
"""What diffusers' pipeline of Z-Image cuts prompts to."""
