"""Asks on a terminal for what a new job lacks: an answer that no job may have is explained and asked again.

The job's own rules judge each answer as soon as it is given, so that none is ever lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import typer
import yaml

from darkroom.console import complain
from darkroom.files import file_uri
from darkroom.job_template import MINIATURE, Draft, render
from darkroom_api.job import SubjectKind
from darkroom_api.load import JobFileError, parse_job
from darkroom_api.objections import objections
from darkroom_api.problems import Problem
from darkroom_api.times import utc_now

Answers = dict[str, Any]
"""Fields of a `Draft` that are known."""

_GOOD: Final = MappingProxyType(
    {
        "name": "job",
        "kind": SubjectKind.OBJECT.value,
        "identifier": "sks",
        "class_noun": "thing",
        "images_uri": "builtin:mascot",
        "base_uri": MINIATURE,
        "output_uri": "pvc://models",
    }
)
_GOOD_CONSENT: Final = MappingProxyType(
    {"consent_record": "record", "consent_expires": "2999-12-31T00:00:00Z"}
)
"""Stand where an answer is still missing."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing to ask for."""

    field: str
    """Field of a `Draft` that the answer is for."""

    flag: str
    """Option that answers it where there is no terminal."""

    text: str

    read: Callable[[str, Path], str] = lambda answer, file: answer
    """What an answer means, in a job file of that name."""

    only_person: bool = False


def _kind(answer: str, file: Path) -> str:
    by_case = {kind.value.lower(): kind.value for kind in SubjectKind}
    return by_case.get(answer.lower(), answer)


QUESTIONS: Final = (
    Question(
        field="kind",
        flag="--kind",
        text="What is the subject: Object, Animal, Style or Person",
        read=_kind,
    ),
    Question(
        field="class_noun",
        flag="--class-noun",
        text="What is it, in an ordinary word (dog)",
    ),
    Question(
        field="images_uri",
        flag="--photos",
        text="In which folder are its pictures",
        read=file_uri,
    ),
    Question(
        field="consent_record",
        flag="--consent-record",
        text="Which ConfigMap records the person's consent",
        only_person=True,
    ),
    Question(
        field="consent_expires",
        flag="--consent-expires",
        text="When does it end (2027-06-30T00:00:00Z)",
        only_person=True,
    ),
)


def complete(answers: Answers, file: Path, *, has_terminal: bool) -> Draft:
    """A draft of the answers and of those that are asked for.

    Raises JobFileError when the given ones are wrong, and BadParameter when there is nobody to ask.
    """
    if problems := problems_of(answers):
        raise JobFileError(str(file), problems)
    for question in QUESTIONS:
        is_needed = not question.only_person or answers["kind"] == SubjectKind.PERSON
        if is_needed and question.field not in answers:
            if not has_terminal:
                raise typer.BadParameter(f"give {question.flag}: there is no terminal to ask on")
            answers = _ask(question, answers, file)
    return Draft(**answers)


def problems_of(answers: Answers) -> tuple[Problem, ...]:
    """What is wrong with answers; those that are missing are taken for good ones."""
    known: Answers = {**_GOOD, **answers}
    if known["kind"] == SubjectKind.PERSON:
        known = {**_GOOD_CONSENT, **known}
    try:
        job = parse_job(yaml.safe_load(render(Draft(**known))))
    except JobFileError as error:
        return error.problems
    return tuple(objection.problem for objection in objections(job.spec, utc_now()))


def _ask(question: Question, answers: Answers, file: Path) -> Answers:
    while True:
        answer = typer.prompt(question.text, prompt_suffix="? ", default="", show_default=False)
        asked = answers | {question.field: question.read(str(answer).strip(), file)}
        problems = problems_of(asked)
        if not problems:
            return asked
        complain(f"{problems[0].message}; {problems[0].fix}")
