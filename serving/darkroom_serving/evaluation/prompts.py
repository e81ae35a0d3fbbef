"""The prompts of an evaluation: DreamBench's, or lines of a file; and what CLIP is told of each."""

import re
from pathlib import Path
from typing import Final

from darkroom_api.job import Subject, SubjectKind
from darkroom_api.words import printable
from darkroom_serving.evaluation.errors import EvaluationError

_PLACES: Final = (
    "in the jungle",
    "in the snow",
    "on the beach",
    "on a cobblestone street",
    "on top of pink fabric",
    "on top of a wooden floor",
    "with a city in the background",
    "with a mountain in the background",
    "with a blue house in the background",
    "on top of a purple rug in a forest",
)
"""DreamBench: https://github.com/google/dreambooth, dataset/prompts_and_classes.txt (CC BY 4.0)."""

_MORE_PLACES: Final = (
    "with a wheat field in the background",
    "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background",
    "floating on top of water",
    "floating in an ocean of milk",
    "on top of green grass with sunflowers around it",
    "on top of a mirror",
    "on top of the sidewalk in a crowded street",
    "on top of a dirt road",
    "on top of a white rug",
)
"""Of its objects."""

_OUTFITS: Final = (
    "wearing a red hat",
    "wearing a santa hat",
    "wearing a rainbow scarf",
    "wearing a black top hat and a monocle",
    "in a chef outfit",
    "in a firefighter outfit",
    "in a police outfit",
    "wearing pink glasses",
    "wearing a yellow shirt",
    "in a purple wizard outfit",
)
"""Of its live subjects."""

_PROPERTIES: Final = ("red", "purple", "shiny", "wet", "cube shaped")

LIVING: Final = (SubjectKind.ANIMAL, SubjectKind.PERSON)


def dreambench_prompts(subject: Subject) -> list[str]:
    """The 25 prompts of DreamBench for the kind of the subject; a style has those of objects."""
    name = f"{subject.identifier} {subject.class_noun}"
    if subject.kind is SubjectKind.STYLE:
        name = subject.class_noun
    rest = _OUTFITS if subject.kind in LIVING else _MORE_PLACES
    plain = [f"a {name} {where}" for where in (*_PLACES, *rest)]
    plain += [f"a {what} {name}" for what in _PROPERTIES]
    return [subject.photo_prompt(prompt) for prompt in plain]


def read_prompts(file: Path, subject: Subject) -> list[str]:
    """The prompts of a text file, one a line; empty lines and those that begin with # are left out.

    They are what captions of photos are: `[identifier]` stands for the subject's, and a line without it
    has the subject's words put to it. Raises EvaluationError.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise EvaluationError(
            f"--prompts: {printable(str(file))} can't be read: {error.strerror}; check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise EvaluationError(
            f"--prompts: {printable(str(file))} is not UTF-8; save it as plain text"
        ) from error
    wanted = [subject.photo_prompt(line) for line in lines if line and not line.startswith("#")]
    prompts = list(dict.fromkeys(wanted))
    if not prompts:
        raise EvaluationError(
            f"--prompts: {printable(str(file))} holds no prompt; write one a line, or leave --prompts"
            " out for DreamBench's"
        )
    return prompts


def without_identifier(prompt: str, subject: Subject) -> str:
    """What CLIP-T compares a picture with: "a sks dog in the snow" is "a dog in the snow".

    An identifier without the class noun behind it is replaced by that.
    """
    word = rf"(?<!\w){re.escape(subject.identifier)}(?!\w)"
    noun = re.escape(subject.class_noun)
    if subject.kind is SubjectKind.STYLE:
        prompt = re.sub(rf",? in the style of {word}", "", prompt, flags=re.IGNORECASE)
    prompt = re.sub(rf"{word}\s+(?={noun}(?!\w))", "", prompt, flags=re.IGNORECASE)
    prompt = re.sub(word, lambda _: subject.class_noun, prompt, flags=re.IGNORECASE)
    return " ".join(prompt.split())
