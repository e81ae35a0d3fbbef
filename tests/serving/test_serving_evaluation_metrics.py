"""The metrics of an evaluation have the values that geometry gives, and the properties that the paper needs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from darkroom_serving.evaluation.measuring import (
    ClipEmbeddings,
    DinoEmbeddings,
    PromptDrawn,
    measure,
)
from darkroom_serving.evaluation.metrics import (
    bootstrap_interval,
    cosines,
    diversity,
    gallery_rank,
    likeness,
    mutual_likeness,
    prompt_fidelity,
)

X, Y, Z = np.eye(3)
DIAGONAL = (X + Y) / np.sqrt(2)


def vectors(*rows):
    return np.array(rows, dtype=np.float32)


@st.composite
def galleries(draw):
    """Queries, photos and look-alikes of whole numbers, so that nothing is lost by rounding."""
    sizes = st.integers(1, 5)
    elements = st.integers(-3, 3)

    def some():
        values = draw(arrays(np.int64, (draw(sizes), 4), elements=elements)).astype(float)
        values[:, 0] = np.abs(values[:, 0]) + 1  # none is zero
        return values

    return some(), some(), some()


def test_likeness_is_the_mean_cosine_with_all_photos_whatever_their_lengths():
    pictures, photos = vectors(X, 2 * DIAGONAL, Z), vectors(3 * X, Y)
    expected = [0.5, np.sqrt(0.5), 0.0]
    assert likeness(pictures, photos) == pytest.approx(expected, abs=1e-6)
    assert likeness(pictures[None], photos).shape == (1, 3)


def test_photos_among_themselves_are_compared_in_pairs_and_never_with_themselves():
    assert mutual_likeness(vectors(X, X)) == pytest.approx(1)
    assert mutual_likeness(vectors(X, Y, DIAGONAL)) == pytest.approx(2 * np.sqrt(0.5) / 3)


def test_prompt_fidelity_compares_each_picture_with_the_text_of_its_own_prompt():
    pictures = np.stack([vectors(X, DIAGONAL), vectors(X, Y)])
    expected = [[1, np.sqrt(0.5)], [0, 1]]
    assert prompt_fidelity(pictures, vectors(X, Y)) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [((X, X, X), 0), ((X, Y, Z), 1), ((X, -X), 2), ((X, X, Y), 2 / 3)],
    ids=["copies", "orthogonal", "opposite", "one-differs"],
)
def test_diversity_is_the_mean_distance_of_pairs(pictures, expected):
    assert diversity(vectors(*pictures)) == pytest.approx(expected)


def test_a_picture_that_is_most_like_the_photos_finds_all_of_them_first():
    ranks = gallery_rank(vectors(X), vectors(X, DIAGONAL), vectors(Y, Z))
    assert (ranks.average_precision, ranks.first) == ([1], [1])


def test_average_precision_counts_the_places_of_the_photos():
    # In order: look-alike, photo, look-alike, photo. Precision 1/2 at the first photo, 2/4 at the second.
    gallery = [np.array([np.cos(angle), np.sin(angle)]) for angle in (0.1, 0.2, 0.3, 0.4)]
    ranks = gallery_rank(np.array([[1.0, 0.0]]), np.stack(gallery[1::2]), np.stack(gallery[0::2]))
    assert ranks.average_precision == pytest.approx([0.5])
    assert ranks.first == [0]


def test_an_encoder_to_which_all_pictures_are_one_finds_nothing_first():
    ranks = gallery_rank(vectors(X), vectors(X, X), vectors(X, X))
    assert ranks.first == [0]
    assert ranks.average_precision == pytest.approx([(1 / 3 + 2 / 4) / 2])


@settings(deadline=None)
@given(galleries())
def test_retrieval_agrees_with_counting_and_only_directions_matter(gallery):
    pictures, photos, look_alikes = gallery
    ranks = gallery_rank(pictures, photos, look_alikes)
    again = gallery_rank(pictures * 4, photos * 2, look_alikes * 8)
    assert np.array_equal(ranks.average_precision, again.average_precision)
    to_photos, to_others = cosines(pictures, photos), cosines(pictures, look_alikes)
    assert np.array_equal(ranks.first == 1, to_photos.max(axis=1) > to_others.max(axis=1) + 1e-9)
    assert ((ranks.average_precision > 0) & (ranks.average_precision <= 1 + 1e-12)).all()
    clear = to_photos.min(axis=1) > to_others.max(axis=1) + 1e-9
    assert np.allclose(ranks.average_precision[clear], 1)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_an_interval_lies_within_the_values_and_is_the_same_at_each_call(values):
    low, high = bootstrap_interval(np.array(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap_interval(np.array(values)) == (low, high)


def test_an_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * 2 / np.sqrt(400), rel=0.15)
    assert low < 3 < high
    assert bootstrap_interval(np.array([3.0])) is None


def test_figures_come_from_the_embeddings_that_they_are_named_after():
    drawn = [
        PromptDrawn("a sks dog", "a dog", (1, 2)),
        PromptDrawn("a red sks dog", "a red dog", (3, 4)),
    ]
    dino = DinoEmbeddings(
        subject=np.stack([vectors(X, X), vectors(X, Y)]),
        class_pictures=vectors(DIAGONAL, Z),
        photos=vectors(X, X),
        look_alikes=vectors(Z, Y),
    )
    clip = ClipEmbeddings(
        subject=np.stack([vectors(Y, Y), vectors(Y, Z)]),
        photos=vectors(Y, Y),
        texts=vectors(Y, Z),
    )
    found = measure(drawn, dino, clip)
    values = {name: one["value"] for name, one in found.figures.model_dump().items()}
    assert values == pytest.approx(
        {
            "dino": 0.75,
            "clip_i": 0.75,
            "clip_t": 0.75,
            "pres": np.sqrt(0.5) / 2,
            "div_dino": 0.5,
            "gallery_map": (3 + (1 / 3 + 2 / 4) / 2) / 4,
            "gallery_rank_1": 0.75,
        }
    )
    assert (found.figures.dino.low, found.figures.dino.high) == (0.5, 1)
    assert [one.dino for one in found.prompts] == [1, 0.5]
    assert [one.div_dino for one in found.prompts] == pytest.approx([0, 1])
    assert (found.photos.dino, found.photos.clip_i) == pytest.approx((1, 1))


def test_one_picture_a_prompt_has_no_diversity_and_one_prompt_no_interval():
    dino = DinoEmbeddings(
        subject=vectors(X)[None],
        class_pictures=vectors(Y),
        photos=vectors(X, X),
        look_alikes=vectors(Y),
    )
    clip = ClipEmbeddings(subject=vectors(X)[None], photos=vectors(X, X), texts=vectors(X))
    found = measure([PromptDrawn("a sks dog", "a dog", (1,))], dino, clip)
    assert found.figures.div_dino is None
    assert (found.figures.dino.value, found.figures.dino.low) == (1, None)
