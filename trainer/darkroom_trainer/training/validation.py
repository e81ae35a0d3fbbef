"""The validation grid: what the model draws at this point, one row a prompt, the same noise each time."""

from pathlib import Path
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.run_layout import VALIDATION
from darkroom_sampling.pixels import decode_pixels
from darkroom_sampling.protocols import Conditions
from darkroom_sampling.trajectory import Guidance, begin, draw
from darkroom_trainer.families.protocols import LoadedBase
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


def _draw_row(
    base: LoadedBase,
    module: nn.Module,
    spec: PersonalizationJobSpec,
    prompt: str,
    row: int,
    dtype: torch.dtype,
) -> list[Image.Image]:
    prompts = base.prompts(["", prompt], dtype, train_text_encoder=spec.training.encodes_prompts)
    unprompted, prompted = (
        {"row": torch.full((COLUMNS,), number, device=base.device)} for number in range(2)
    )

    def predict(latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        predicted: Tensor = module(latents.to(dtype), timesteps, prompts, conditions["row"])
        return predicted.float()

    samples = range(row * COLUMNS, (row + 1) * COLUMNS)
    shape = base.latent_shape(spec.training.resolution, spec.training.resolution)
    latents = draw(
        predict,
        begin(
            base,
            normal(spec.training.seed, Stream.VALIDATION, 0, samples, shape),
            prompted,
            Guidance(unprompted, GUIDANCE_SCALE),
            steps=STEPS,
        ),
    )
    return [Image.fromarray(pixels) for pixels in decode_pixels(base.codec, latents)]


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
