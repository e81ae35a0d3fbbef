"""The world is a pure function of (seed, index), and its captions say what its pictures show."""

import numpy as np
import pytest
from miniature.classifier import labels_of
from miniature.tokenizer import learn_merges, words
from miniature.world import COLOURS, FONT, NOUNS, PLACES, RARE_TOKENS, SIZE, scene

pytestmark = pytest.mark.skipif(
    not FONT.exists(),
    reason="needs Debian's fonts-noto-color-emoji, as rebuilding the miniature does",
)


def test_the_same_seed_and_index_give_the_same_scene():
    first, again, other = scene(3, 14), scene(3, 14), scene(3, 15)
    assert first.caption == again.caption
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_a_scene_is_a_picture_of_the_world_s_size():
    pixels = scene(0, 0).pixels
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 10


def test_captions_hold_their_noun_and_only_words_of_the_tokenizer():
    vocabulary = set(words())
    scenes = [scene(0, index) for index in range(120)]
    for made in scenes:
        assert made.noun in made.caption.split()
        assert set(made.caption.split()) <= vocabulary
    assert labels_of([made.caption for made in scenes]).tolist() == [
        list(NOUNS).index(made.noun) for made in scenes
    ]


def test_every_noun_place_and_colour_occurs_and_rare_tokens_now_and_then():
    captions = " / ".join(scene(1, index).caption for index in range(600))
    for phrase in (*NOUNS, *PLACES, *COLOURS):
        assert phrase in captions
    assert any(token in captions for token in RARE_TOKENS)


def test_merges_join_every_word_into_one_token():
    merges = ["".join(pair) for pair in learn_merges(words())]
    for word in words():
        assert len(word) == 1 or f"{word}</w>" in merges
