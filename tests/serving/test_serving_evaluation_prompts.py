"""The prompts of an evaluation show the subject, and CLIP is told of them without the identifier."""

import json

import pytest

from darkroom_api.job import Subject
from darkroom_serving.evaluation.errors import EvaluationError
from darkroom_serving.evaluation.preparation import picture_seed
from darkroom_serving.evaluation.prompts import (
    dreambench_prompts,
    read_prompts,
    without_identifier,
)


def subject(kind="Animal", identifier="sks", noun="dog"):
    images = {"uri": "builtin:mascot"}
    fields = {"kind": kind, "identifier": identifier, "classNoun": noun, "images": images}
    return Subject.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("kind", "worn", "floating"),
    [("Animal", 10, 0), ("Object", 0, 2), ("Style", 0, 2)],
)
def test_dreambench_has_25_prompts_that_suit_the_kind(kind, worn, floating):
    prompts = dreambench_prompts(subject(kind))
    assert len(set(prompts)) == 25
    assert all("sks" in prompt for prompt in prompts)
    dressed = [one for one in prompts if "wearing" in one or "outfit" in one]
    assert (len(dressed), sum("floating" in one for one in prompts)) == (worn, floating)


def test_dreambench_names_the_subject_as_the_paper_does():
    prompts = dreambench_prompts(subject())
    assert (prompts[0], prompts[-1]) == ("a sks dog in the jungle", "a cube shaped sks dog")
    styled = dreambench_prompts(subject("Style"))
    assert styled[0] == "a dog in the jungle, in the style of sks"


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a sks dog in the snow", "a dog in the snow"),
        ("a photo of SKS  dog", "a photo of dog"),
        ("sks on the beach", "dog on the beach"),
        ("a sks doghouse with sks", "a dog doghouse with dog"),
        ("a sksy dog", "a sksy dog"),
    ],
)
def test_clip_is_told_of_the_class_where_the_prompt_has_the_identifier(prompt, text):
    assert without_identifier(prompt, subject()) == text


@pytest.mark.parametrize("kind", ["Animal", "Object", "Style"])
@pytest.mark.parametrize("identifier", ["sks", "<sks>", "TOK"])
def test_no_prompt_of_dreambench_keeps_its_identifier(kind, identifier):
    own = subject(kind, identifier)
    texts = [without_identifier(prompt, own) for prompt in dreambench_prompts(own)]
    assert not [text for text in texts if identifier in text or "style" in text]
    assert (texts[0], texts[-1]) == ("a dog in the jungle", "a cube shaped dog")


def test_a_file_holds_a_prompt_a_line_and_each_shows_the_subject(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(
        "# places\n\na [identifier] dog at sea\n  sks dog at noon \nin a box\nin a box\n"
    )
    expected = ["a sks dog at sea", "sks dog at noon", "sks dog, in a box"]
    assert read_prompts(file, subject()) == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "can't be read"), (b"# none\n\n", "holds no prompt"), (b"\xff\xfe", "is not UTF-8")],
    ids=["absent", "empty", "binary"],
)
def test_a_file_without_prompts_is_refused_with_the_option(tmp_path, content, why):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EvaluationError, match=f"^--prompts: .*{why}"):
        read_prompts(file, subject())


def test_a_seed_follows_from_the_prompt_and_the_number_alone():
    seeds = {
        picture_seed(seed, prompt, number)
        for seed in (0, 1)
        for prompt in ("a", "b")
        for number in range(50)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert picture_seed(0, "a sks dog", 0) == 5912533952489243706
