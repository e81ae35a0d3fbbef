"""What the base model makes of a job's words: prompts that are cut, identifiers with a meaning."""

import shutil

import pytest
from transformers import CLIPTokenizer

from darkroom_api.builtin import builtin_folder
from darkroom_api.names import MANIFEST_FILE
from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.inputs.base.prompts import WordReader, prompt_warnings
from darkroom_trainer.inputs.base_model import inspect_base


@pytest.fixture(scope="module")
def miniature():
    return inspect_base("builtin:miniature", builtin_folder("miniature"))


@pytest.fixture
def warnings_of(miniature, make_job, tmp_path):
    def build(prompts=("a dog",), **subject):
        validation = {"everySteps": 2, "prompts": list(prompts)}
        spec = make_job(tmp_path, subject=subject, validation=validation).spec
        return [str(doubt) for doubt in prompt_warnings(miniature, spec)]

    return build


@pytest.mark.parametrize("identifier", ["sks", "zwx", "<sks>", "SKS", "ohwx_qfg"])
@pytest.mark.parametrize("class_noun", ["dog", "cat", "house", "flower"])
def test_rare_tokens_and_common_nouns_are_not_warned_about(warnings_of, identifier, class_noun):
    assert warnings_of(identifier=identifier, classNoun=class_noun) == []


@pytest.mark.parametrize("identifier", ["red", "Car", "bird"])
def test_a_word_that_the_base_knows_is_warned_about_with_its_neighbours(warnings_of, identifier):
    (warning,) = warnings_of(identifier=identifier)
    assert warning.startswith(
        f"spec.subject.identifier: the base model knows the word {identifier} (nearest to it: "
    )
    assert warning.endswith("): it has a meaning of its own; choose a rarer one, such as sks")


def test_the_nearest_words_are_those_with_the_largest_cosine(miniature):
    reader = WordReader(miniature)
    (red,) = reader.word("red")
    assert reader.nearest(red) == ["desert", "pink"]


def test_an_identifier_of_pieces_that_mean_something_is_warned_about(warnings_of):
    (warning,) = warnings_of(identifier="sks_cat")
    assert warning.startswith(
        "spec.subject.identifier: the base model reads sks_cat as sks + _ + cat and knows cat (nearest to it: "
    )


def test_a_class_noun_that_the_tokenizer_splits_is_warned_about(warnings_of):
    (warning,) = warnings_of(classNoun="labradoodle")
    assert warning.startswith("spec.subject.classNoun: labradoodle is no word to the base model")
    assert warning.endswith("; a common word for it works better")


def test_a_first_word_of_new_tokens_that_the_tokenizer_splits_is_warned_about(
    miniature, make_job, tmp_path
):
    def warnings(initializer):
        new = {"method": "LoRA", "newTokens": {"initializer": initializer}}
        spec = make_job(tmp_path, subject={"identifier": "<sks>"}, training=new).spec
        return [str(doubt) for doubt in prompt_warnings(miniature, spec)]

    assert warnings("cat") == []
    (warning,) = warnings("goldendoodle")
    field, _, said = warning.partition(": ")
    assert field == "spec.training.newTokens.initializer"
    assert said.startswith("goldendoodle is no word to the base model, it reads g")


def test_a_token_without_an_embedding_is_refused(tiny_base, make_job, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (base / MANIFEST_FILE).unlink()
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    tokenizer.add_tokens(["<sks>"])
    tokenizer.save_pretrained(base / "tokenizer")
    spec = make_job(tmp_path, subject={"identifier": "<sks>"}).spec
    with pytest.raises(
        UnusableBaseError, match="makes <sks> of 'a photo of <sks> dog' token number 74"
    ):
        prompt_warnings(inspect_base("file:base", base), spec)


def test_a_prompt_that_is_cut_says_whether_the_identifier_was_in_the_rest(warnings_of):
    far = "a photo of a dog on the grass and the water and the night and sks dog"
    near = "sks dog on the grass and the water and the night and the forest and red"
    cut = "and the base model reads the first 16: the rest is cut off"
    field = "spec.validation.prompts"
    assert warnings_of(prompts=[far, near]) == [
        f"{field}[0]: the prompt {far[:60]!r} has 19 tokens {cut}, the identifier with it; shorten it",
        f"{field}[1]: the prompt {near[:60]!r} has 18 tokens {cut}; shorten it",
    ]
