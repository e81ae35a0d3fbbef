"""Aspect-ratio buckets: which sizes there are, which a photo gets, and what of it is cropped away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from darkroom_api.pictures.buckets import (
    bucket_sizes,
    crop_corner,
    fill_scale,
    kept_share,
    nearest_bucket,
)
from darkroom_api.pictures.photos import read_photos

side_steps = st.sampled_from([8, 16, 32])
resolutions = st.integers(1, 256).map(lambda eighths: 8 * eighths).filter(lambda side: side >= 32)
sides = st.integers(64, 20_000)


def test_the_sizes_at_512_are_those_that_everybody_has():
    """kohya's `make_bucket_resolutions((512, 512), 256, 1024, 64)`."""
    wide = [(576, 448), (640, 384), (704, 320), (768, 320), (832, 256), (896, 256), (960, 256)]
    wide.append((1024, 256))
    expected = {(512, 512), *wide, *(size[::-1] for size in wide)}
    assert set(bucket_sizes(512, 8)) == expected


@given(resolutions, side_steps)
def test_every_size_fits_the_base_and_has_no_more_pixels_than_the_square(resolution, side_step):
    sizes = bucket_sizes(resolution, side_step)
    assert (resolution, resolution) in sizes
    assert list(sizes) == sorted(set(sizes))
    for width, height in sizes:
        assert (height, width) in sizes
        assert width * height <= resolution**2
        assert max(width, height) <= 2 * resolution
        assert min(width, height) >= resolution / 2
        if width != height:
            assert width % side_step == height % side_step == 0


@given(sides, sides, resolutions, side_steps)
def test_a_photo_gets_the_size_that_keeps_most_of_it_and_never_less_than_the_square(
    width, height, resolution, side_step
):
    photo, sizes = (width, height), bucket_sizes(resolution, side_step)
    kept = kept_share(photo, nearest_bucket(photo, sizes))
    assert kept == max(kept_share(photo, size) for size in sizes)
    assert kept >= kept_share(photo, (resolution, resolution)) == min(photo) / max(photo)
    turned = nearest_bucket((height, width), sizes)
    assert kept_share((height, width), turned) == kept


@given(sides, sides, st.sampled_from(bucket_sizes(512, 8)))
def test_a_crop_fills_its_bucket_and_is_in_the_middle(width, height, bucket):
    scale, (left, top) = fill_scale((width, height), bucket), crop_corner((width, height), bucket)
    assert min(left, top) == 0
    for side, kept, corner in ((width, bucket[0], left), (height, bucket[1], top)):
        assert side * scale >= kept - 1e-6
        assert abs(side * scale - kept - 2 * corner) <= 1 + 1e-6
    area = bucket[0] * bucket[1] / (width * height * scale**2)
    assert area == pytest.approx(kept_share((width, height), bucket))


def test_photos_are_read_in_their_buckets_and_what_is_lost_of_them_is_said(tmp_path):
    sizes = {"long": (900, 100), "square": (200, 204), "tall": (240, 400)}
    for colour, (name, size) in zip(("red", "lime", "blue"), sizes.items(), strict=True):
        picture = Image.effect_noise(size, 90)
        ImageOps.colorize(picture, "black", colour).save(tmp_path / f"{name}.png")
    found = read_photos(tmp_path, 64, lambda image, crop: crop, bucket_sizes(64, 8))
    crops = {photo.name: (photo.crop, photo.pixels) for photo in found.photos}
    assert crops == {
        "long.png": ((128, 32), (128, 32)),
        "square.png": ((64, 64), (64, 64)),
        "tall.png": ((48, 80), (48, 80)),
    }
    assert [photo.size for photo in found.photos] == list(sizes.values())
    (warning,) = found.warnings
    assert warning == (
        "long.png is 900 x 100 pixels: the 128 x 32 in its middle is used, and 56% of it is lost;"
        " crop it to the subject"
    )
