"""What the stages share: the pool of pictures, the optimizer, the moving average, resumable steps.

The optimizer is Muon (orthogonalised momentum, https://kellerjordan.github.io/posts/muon/) for matrices
and convolutions, which learns such small models in a third of Adam's steps; Adam takes the rest.
"""

import copy
import math
from collections.abc import Callable, Iterable
from multiprocessing import Pool
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from miniature.world import SIZE, scene

MOMENTUM: Final = 0.95
SAVE_EVERY: Final = 50
"""Steps between the states from which a killed stage goes on."""


def picture_pool(work: Path, seed: int, count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """The first `count` pictures (count x height x width x RGB) and captions of a world, made once."""
    file = work / f"pool-{seed}-{count}.npz"
    if not file.exists():
        with Pool() as workers:
            jobs = workers.imap(_scene_pixels, ((seed, i) for i in range(count)), chunksize=64)
            scenes = list(tqdm(jobs, total=count, desc="world"))
        pixels = np.stack([pixels for pixels, _ in scenes])
        np.savez(file, pixels=pixels, captions=np.array([caption for _, caption in scenes]))
    with np.load(file) as pool:
        assert pool["pixels"].shape == (count, SIZE, SIZE, 3)
        return pool["pixels"], pool["captions"].tolist()


def _scene_pixels(key: tuple[int, int]) -> tuple[NDArray[np.uint8], str]:
    made = scene(*key)
    return made.pixels, made.caption


def to_model(pixels: NDArray[np.uint8]) -> Tensor:
    """Pictures (n x height x width x RGB, 0..255) as n x 3 x height x width in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions; a convolution counts as out x (in·kernel)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                update = parameter.grad.lerp(momentum, MOMENTUM)
                update = orthogonalised(update.flatten(1)).view_as(parameter)
                rows, columns = parameter.shape[0], parameter[0].numel()
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, by five Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (torch.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearest: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return nearest


def optimizers(model: nn.Module, *, muon: float, adam: float) -> list[torch.optim.Optimizer]:
    """Muon for matrices and convolutions, Adam for embeddings, biases and norms."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and "embedding" not in name
            (matrices if is_matrix else others).append(parameter)
    return [Muon(matrices, muon), torch.optim.Adam(others, adam, betas=(0.9, 0.98))]


def train(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    *,
    state_file: Path,
    steps: int,
    muon: float,
    adam: float,
    ema: float,
) -> nn.Module:
    """Runs a stage and returns the moving average of its weights; goes on where it was killed.

    `loss_of(step)` must depend on the step alone. The learning rates warm up over 2 % of the steps
    and follow a half cosine down to 2 % of their peak.
    """
    average = copy.deepcopy(model).requires_grad_(requires_grad=False)
    optims = optimizers(model, muon=muon, adam=adam)
    peaks = [optim.param_groups[0]["lr"] for optim in optims]
    first = _restore(state_file, model, average, optims)
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=state_file.stem, mininterval=5)
    for step in bar:
        factor = min(1.0, step / (0.02 * steps)) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
        for optim, peak in zip(optims, peaks, strict=True):
            optim.param_groups[0]["lr"] = peak * factor
        loss = loss_of(step)
        loss.backward()  # type: ignore[no-untyped-call]
        for optim in optims:
            optim.step()
            optim.zero_grad()
        decay = min(ema, (1 + step) / (10 + step))
        for kept, now in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(now.detach(), 1 - decay)
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            _save(state_file, step + 1, model, average, optims)
    return average


def _save(
    file: Path, step: int, model: nn.Module, average: nn.Module, optims: list[torch.optim.Optimizer]
) -> None:
    state = {"step": step, "model": model.state_dict(), "average": average.state_dict()}
    partial = file.with_suffix(".partial")
    torch.save(state | {"optims": [optim.state_dict() for optim in optims]}, partial)
    partial.replace(file)


def _restore(
    file: Path, model: nn.Module, average: nn.Module, optims: list[torch.optim.Optimizer]
) -> int:
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    return int(state["step"])
