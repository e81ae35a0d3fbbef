"""What a server serves, where it listens and how much one request may ask for."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most that one request may ask for: beyond it the request is refused, nothing is cut off."""

    max_side: int = 1024
    """Longest side of a generated image in pixels."""

    max_images: int = 10
    """Images of one request; OpenAI's own limit."""

    max_steps: int = 200
    """Denoising steps of one image."""

    max_prompt_chars: int = 4000
    """Characters of a prompt and of a negative prompt."""

    max_body_bytes: int = 1 << 20
    """Bytes of a request for images."""

    max_waiting: int = 32
    """Requests for images that wait or are drawn at a time; more of them are told to come back."""


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """One server."""

    registry: Path
    """Root of the registry of subject models; need not exist yet."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 8000
    """Port to listen on."""

    metrics_port: int | None = None
    """Port of Prometheus text, at `/metrics` of the same address; none when None."""

    base: Path | None = None
    """Folder of the base model; the built-in miniature when None."""

    classifier: Path | None = None
    """Folder of the model that classifies; the built-in one when None."""

    max_models: int = 4
    """Models kept in memory; the one that was unused for longest makes room."""

    allowed_origins: tuple[str, ...] = ()
    """Origins whose web pages may use the server, as https://example.org; * for all."""

    limits: Limits = field(default_factory=Limits)
    """Most that one request may ask for."""
