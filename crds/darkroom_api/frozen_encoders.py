"""Base models whose text encoder stays as it is: known by the name on the Hub, or by whoever has the files."""

from typing import Final

from darkroom_api.problems import Problem

ON_THE_HUB: Final = {
    "Tongyi-MAI/Z-Image": "Z-Image",
    "Tongyi-MAI/Z-Image-Turbo": "Z-Image",
}
"""Repositories of such models, and the family of each."""


def frozen_family(uri: str) -> str | None:
    """The family of a base model on the Hub whose text encoder is not trained; None where that isn't known."""
    repository = uri.removeprefix("hf://").partition("@")[0]
    return ON_THE_HUB.get(repository) if uri.startswith("hf://") else None


def trained_in_vain(family: str) -> Problem:
    """What is wrong with a job that trains the text encoder of such a family."""
    return Problem(
        "spec.training.trainTextEncoder",
        f"the text encoder of {family} is a language model, which stays as it is: its states are made once",
        "set it to false",
    )
