"""The folder that an evaluation writes, whole or not at all: JSON, Markdown and a contact sheet."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.contact_sheet import Row, compose
from darkroom.files import explained
from darkroom_api.integrity import fsync_path
from darkroom_serving.evaluation.results import MEANINGS, Evaluation, Figure

if TYPE_CHECKING:
    from darkroom_serving.evaluation.run import Evaluated


def write(done: "Evaluated", output: Path) -> None:
    """Makes the folder; raises CommandError, and leaves nothing behind then."""
    with explained(output, "written"):
        partial = Path(tempfile.mkdtemp(prefix=".evaluation-", dir=output.absolute().parent))
        try:
            content = done.evaluation.model_dump_json(indent=1)
            (partial / "evaluation.json").write_text(content + "\n", encoding="utf-8")
            (partial / "evaluation.md").write_text(markdown(done.evaluation), encoding="utf-8")
            sheet = compose(f"darkroom evaluate {done.evaluation.model.id}", list(_rows(done)))
            sheet.save(partial / "contact-sheet.png")
            for path in (*partial.iterdir(), partial):
                fsync_path(path)
            partial.chmod(0o755)  # as mkdir makes it; a temporary one is for its owner alone
            partial.rename(output)
            fsync_path(output.absolute().parent)
        finally:  # also when a signal ends the command
            shutil.rmtree(partial, ignore_errors=True)


def figure_rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str]]:
    """Name, value, interval and meaning of each figure."""
    for name, meaning in MEANINGS.items():
        figure: Figure | None = getattr(evaluation.figures, name)
        if figure is not None:
            yield name, f"{figure.value:.3f}", _interval(figure), meaning


def markdown(evaluation: Evaluation) -> str:
    """`evaluation.md`."""
    model, drawing = evaluation.model, evaluation.drawing
    photos = evaluation.photos_among_themselves
    lines = [
        f"# Evaluation of {_cell(model.id)}",
        "",
        f"Digest `{model.digest}`; {evaluation.photos.number} photos;"
        f" {len(evaluation.prompts)} prompts x {drawing.images_per_prompt} pictures of"
        f" {drawing.width} x {drawing.height}, {drawing.steps} steps of {drawing.sampler}, guidance"
        f" {drawing.guidance_scale:g}, seed {drawing.seed}, on {drawing.device}.",
        "",
        *_table(("figure", "value", "95 % interval", "meaning"), figure_rows(evaluation)),
        "",
        f"The photos among themselves: dino {photos.dino:.3f}, clip_i {photos.clip_i:.3f}.",
        "",
        *_table(("prompt", "dino", "clip_i", "clip_t", "div_dino"), _prompt_rows(evaluation)),
        "",
        *_table(("encoder", "class", "digest"), _encoder_rows(evaluation)),
    ]
    if evaluation.warnings:
        lines += ["", *(f"- {warning}" for warning in evaluation.warnings)]
    return "\n".join(lines) + "\n"


def _prompt_rows(evaluation: Evaluation) -> Iterator[tuple[str, ...]]:
    for one in evaluation.prompts:
        spread = "" if one.div_dino is None else f"{one.div_dino:.3f}"
        yield one.prompt, f"{one.dino:.3f}", f"{one.clip_i:.3f}", f"{one.clip_t:.3f}", spread


def _encoder_rows(evaluation: Evaluation) -> Iterator[tuple[str, ...]]:
    used = evaluation.encoders
    for name, one in (("dino", used.dino), ("clip", used.clip)):
        yield f"{name}: {one.folder}", one.class_name, one.digest


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:.3f} to {figure.high:.3f}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    """Text that means nothing to Markdown: an identifier may be `<sks>`."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def _rows(done: "Evaluated") -> Iterator[Row]:
    yield Row(label="The photos", pictures=done.photos)
    for one, pictures in zip(done.evaluation.prompts, done.subject_pictures, strict=True):
        score = f"dino {one.dino:.2f}, clip_t {one.clip_t:.2f}"
        yield Row(label=f'"{one.prompt}": {score}', pictures=pictures)
    label = f'"{done.evaluation.class_pictures.prompt}": the class, for pres'
    yield Row(label=label, pictures=done.class_pictures)
