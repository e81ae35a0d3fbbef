"""Names that clients have for the samplers: AUTOMATIC1111's, ComfyUI's and diffusers' classes."""

from darkroom_sampling.samplers import sampler_by_name


def sampler_named(name: str) -> str:
    """Our name of a sampler; the name itself where there is no such sampler."""
    return sampler_by_name(name) or name
