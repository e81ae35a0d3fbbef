"""The validation grid: what the model draws at this point, one row a prompt, the same noise each time."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.run_layout import VALIDATION
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.training.sampling import draw_latents
from darkroom_trainer.training.streams import Stream, normal

COLUMNS: Final = 4
"""Pictures of a prompt."""

STEPS: Final = 25
GUIDANCE_SCALE: Final = 3.0
"""Lower than people draw with: it shows what was learnt, not what guidance makes of it."""

LABEL_PIXELS: Final = 18
MIN_SIDE: Final = 128
"""Smaller pictures are enlarged to this side, so that a person can see something."""


def grid_path(run_folder: Path, step: int) -> Path:
    """Where the grid of a step is kept."""
    return run_folder / VALIDATION / f"step-{step:08d}.png"


def is_due(spec: PersonalizationJobSpec, step: int) -> bool:
    """Whether a grid is drawn after that step."""
    return spec.validation is not None and step % spec.validation.every_steps == 0


def newest_grid(spec: PersonalizationJobSpec, run_folder: Path) -> Path | None:
    """The last grid that a finished run drew; None when it drew none."""
    if spec.validation is None:
        return None
    every, last = spec.validation.every_steps, spec.training.max_steps
    path = grid_path(run_folder, last - last % every)
    return path if path.exists() else None


def draw_grid(
    base: LoadedBase, module: nn.Module, spec: PersonalizationJobSpec, dtype: torch.dtype
) -> Image.Image:
    """Draws the grid with the weights as they are; all ranks call it, since ZeRO-3 shards them."""
    assert spec.validation is not None
    rows = [
        (prompt, _draw_row(base, module, spec, prompt, row, dtype))
        for row, prompt in enumerate(spec.validation.prompts)
    ]
    return compose(rows)


@torch.no_grad()
def _draw_row(
    base: LoadedBase,
    module: nn.Module,
    spec: PersonalizationJobSpec,
    prompt: str,
    row: int,
    dtype: torch.dtype,
) -> list[Image.Image]:
    device = base.device
    prompts = base.prompts(["", prompt], dtype, train_text_encoder=spec.training.encodes_prompts)
    halves = torch.tensor([0] * COLUMNS + [1] * COLUMNS, device=device)

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        timesteps = timestep.to(device).expand(len(latents))
        predicted: Tensor = module(latents.to(dtype), timesteps, prompts, halves)
        return predicted

    samples = range(row * COLUMNS, (row + 1) * COLUMNS)
    shape = base.latent_shape(spec.training.resolution)
    latents = draw_latents(
        predict,
        normal(spec.training.seed, Stream.VALIDATION, 0, samples, shape).to(device),
        scheduler=base.objective.sampler(STEPS),
        guidance_scale=GUIDANCE_SCALE,
    )
    return decode(base, latents)


@torch.no_grad()
def decode(base: LoadedBase, latents: Tensor) -> list[Image.Image]:
    """Pictures of scaled latents, (B, C, H, W)."""
    pictures = [base.codec.decode(one) for one in torch.split(latents, 1)]
    pixels = (torch.cat(pictures).float().clamp(-1, 1) + 1) * 127.5
    arrays = pixels.round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]


def compose(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Labelled rows of pictures as one."""
    side = max(MIN_SIDE, rows[0][1][0].width)
    sheet = Image.new("RGB", (COLUMNS * side, len(rows) * (side + LABEL_PIXELS)), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for number, (label, images) in enumerate(rows):
        top = number * (side + LABEL_PIXELS)
        pen.text((4, top + 1), label, fill="black", font=font)
        for column, image in enumerate(images):
            enlarged = image.resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(enlarged, (column * side, top + LABEL_PIXELS))
    return sheet
