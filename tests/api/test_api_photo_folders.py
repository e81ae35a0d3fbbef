"""Folders of photos as people have them: captions, kohya's sub-folders, junk, copies."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from darkroom_api.artifact import json_digest
from darkroom_api.job import Subject
from darkroom_api.pictures.folder import PhotoFolderError
from darkroom_api.pictures.photos import read_photos

SIDE = 64


def picture(seed, size=(80, 100)):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (10, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Three good photos: a, b and c."""
    for number, name in enumerate("abc"):
        picture(number).save(tmp_path / f"{name}.png")
    return tmp_path


def read(folder):
    return read_photos(folder, SIDE, lambda image, crop: image.size)


def captions(folder):
    return {photo.name: photo.caption for photo in read(folder).photos}


def refusal(folder):
    with pytest.raises(PhotoFolderError) as caught:
        read(folder)
    assert {problem.field for problem in caught.value.problems} == {"spec.subject.images"}
    return caught.value


def test_without_captions_the_digest_is_that_of_the_files(folder):
    found = read(folder)
    assert found.warnings == ()
    assert found.digest == json_digest([photo.sha256 for photo in found.photos])


@pytest.mark.parametrize("suffix", [".txt", ".caption", ".TXT", ".png.txt"])
def test_a_text_file_beside_a_photo_is_its_caption(folder, suffix):
    (folder / f"b{suffix}").write_bytes("\ufeffsks dog,\n on the  grass\r\n".encode())
    assert captions(folder) == {"a.png": None, "b.png": "sks dog, on the grass", "c.png": None}


def test_metadata_jsonl_has_captions_as_hugging_face_s_imagefolder(folder):
    rows = [{"file_name": "a.png", "text": "sks dog \u2028 größer", "extra": 1}, None]
    rows += [{"file_name": "./c.png", "text": "a dog"}]
    text = "\n".join("" if row is None else json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "metadata.jsonl").write_text(text)
    assert captions(folder) == {"a.png": "sks dog größer", "b.png": None, "c.png": "a dog"}


def test_a_kohya_folder_has_repeats_and_a_caption_in_its_name(folder):
    (folder / "10_sks dog").mkdir()
    for number, name in enumerate("xy"):
        picture(10 + number).save(folder / "10_sks dog" / f"{name}.png")
    (folder / "10_sks dog" / "y.txt").write_text("sks dog, asleep")
    found = {photo.name: (photo.caption, photo.repeats) for photo in read(folder).photos}
    assert found == {
        "10_sks dog/x.png": ("sks dog", 10),
        "10_sks dog/y.png": ("sks dog, asleep", 10),
        "a.png": (None, 1),
        "b.png": (None, 1),
        "c.png": (None, 1),
    }


def test_captions_of_another_form_are_named(folder):
    (folder / "metadata.csv").write_text("file_name,text\na.png,sks dog\n")
    assert read(folder).warnings == (
        "metadata.csv is not read: write its captions into metadata.jsonl",
        "1 file beside the photos is ignored: metadata.csv",
    )


def test_equal_repeats_are_none(tmp_path):
    for folder, first in (("4_sks dog", 0), ("6_sks dog", 5)):
        (tmp_path / folder).mkdir()
        for number in range(2):
            picture(first + number).save(tmp_path / folder / f"{number}.png")
    assert [photo.repeats for photo in read(tmp_path).photos] == [2, 2, 3, 3]


def test_captions_and_repeats_change_the_digest(folder):
    digests = {read(folder).digest}
    (folder / "a.txt").write_text("sks dog")
    digests.add(read(folder).digest)
    (folder / "a.txt").write_text("sks dog, asleep")
    digests.add(read(folder).digest)
    (folder / "a.txt").unlink()
    line = {"file_name": "a.png", "text": "sks dog, asleep", "repeats": 2}
    (folder / "metadata.jsonl").write_text(json.dumps(line))
    digests.add(read(folder).digest)
    assert len(digests) == 4


def test_other_sub_folders_are_named_and_not_read(folder):
    for name in ("old", "0_sks dog", "5_sks dog/deeper", ".hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "old" / "x.png").write_bytes(b"")
    found = read(folder)
    assert len(found.photos) == 3
    assert found.warnings == (
        "3 sub-folders are not read: 0_sks dog, 5_sks dog/deeper, old; only those named as in"
        ' "10_sks dog" are (repeats, caption)',
    )


def test_junk_is_counted_in_one_line_and_never_called_a_bad_picture(folder):
    names = [".DS_Store", "Thumbs.db", "desktop.ini", "a.xmp", "IMG_1.AAE", "a.json", "README.txt"]
    for name in [*names, "._a.png", "IMG_1.MOV"]:
        (folder / name).write_bytes(b"\0\1\2")
    found = read(folder)
    assert found.quarantined == ()
    assert found.warnings == (
        "9 files beside the photos are ignored: .DS_Store, ._a.png, IMG_1.AAE, IMG_1.MOV, README.txt"
        " and 4 more",
    )


CAPTION_ERRORS = {
    "without a picture": (
        {"gone.txt": b"sks dog"},
        "gone.txt is the caption of a picture that is not there",
    ),
    "of a picture that is not there": (
        {"metadata.jsonl": b'{"file_name": "../a.png", "text": "x"}'},
        "metadata.jsonl line 1 (../a.png) is the caption of a picture that is not there",
    ),
    "twice": (
        {"a.txt": b"x", "metadata.jsonl": b'{"file_name": "a.png", "text": "x"}'},
        "a.txt and metadata.jsonl line 1 (a.png) are captions of the same picture",
    ),
    "in another encoding": ({"a.txt": "größer".encode("latin-1")}, "a.txt is not UTF-8 text"),
    "too large": (
        {"a.txt": b"x" * 70_000},
        "a.txt is 0.1 MiB, larger than the limit of 0.0625 MiB",
    ),
    "no json": ({"metadata.jsonl": b"\n{]"}, "metadata.jsonl line 2: Invalid JSON"),
    "without text": ({"metadata.jsonl": b'{"file_name": "a.png"}'}, "line 1: text: Field required"),
    "zero repeats": (
        {"metadata.jsonl": b'{"file_name": "a.png", "text": "x", "repeats": 0}'},
        "line 1: repeats: Input should be greater than or equal to 1",
    ),
}


@pytest.mark.parametrize("name", CAPTION_ERRORS)
def test_captions_that_can_not_be_used_are_refused(folder, name):
    files, message = CAPTION_ERRORS[name]
    for file, content in files.items():
        (folder / file).write_bytes(content)
    error = refusal(folder)
    assert error.reason == "CaptionsUnusable"
    assert message in str(error)


def test_all_wrong_captions_are_said_at_once(folder):
    (folder / "x.txt").write_text("sks dog")
    (folder / "y.txt").write_text("sks dog")
    assert len(refusal(folder).problems) == 2


def test_captions_that_are_no_regular_files_of_the_folder_are_not_opened(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_text("a secret")
    (folder / "a.txt").symlink_to(secret)
    os.mkfifo(folder / "b.txt")
    messages = str(refusal(folder))
    assert "a.txt is a symbolic link that leads out of the folder" in messages
    assert "b.txt is not a regular file" in messages


def test_an_empty_caption_is_said_and_the_words_of_the_job_are_used(folder):
    (folder / "a.txt").write_text(" \n")
    assert captions(folder)["a.png"] is None
    assert read(folder).warnings == ("a.txt: the caption is empty; the words of the job are used",)


COPIES = {
    "byte for byte": lambda image: (image, {"format": "PNG"}),
    "JPEG quality 30": lambda image: (image, {"format": "JPEG", "quality": 30}),
    "half the size": lambda image: (
        image.resize((160, 200), Image.Resampling.LANCZOS),
        {"format": "PNG"},
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_do_not_count_and_are_named(folder, name):
    original = picture(1, (320, 400))
    original.save(folder / "b.png")
    copy, options = COPIES[name](original)
    copy.save(folder / "d.img", **options)
    found = read(folder)
    assert [photo.name for photo in found.photos] == ["a.png", "b.png", "c.png"]
    (duplicate,) = found.duplicates
    assert (duplicate.name, duplicate.reason) == ("d.img", "shows the same picture as b.png")


def test_two_photos_and_a_copy_are_two(folder):
    picture(1).resize((60, 75)).save(folder / "c.png")
    error = refusal(folder)
    assert error.reason == "TooFewPhotos"
    assert "2 of 3 files can be used\n  - c.png: shows the same picture as b.png" in str(error)


def test_what_was_not_read_is_said_with_what_is_too_few(tmp_path):
    (tmp_path / "img" / "10_sks dog").mkdir(parents=True)
    (tmp_path / "Thumbs.db").touch()
    message = str(refusal(tmp_path))
    assert f"at least 3 photos are needed in {tmp_path}; it has 0" in message
    assert "\n  - 1 file beside the photos is ignored: Thumbs.db" in message
    assert "\n  - 1 sub-folder is not read: img; only those named" in message


def test_even_pictures_of_different_textures_or_colours_are_no_copies(tmp_path):
    random = np.random.default_rng(0)
    for number in range(3):
        texture = random.integers(0, 256, (512, 512, 3), dtype=np.uint8)
        Image.fromarray(texture).save(tmp_path / f"texture-{number}.png")
        Image.new("RGB", (64, 64), (60 * number, 90, 90)).save(tmp_path / f"plain-{number}.png")
    assert read(tmp_path).duplicates == ()


def test_a_crop_that_loses_more_than_half_is_told(folder):
    picture(7, (400, 100)).save(folder / "d.png")
    picture(8, (180, 100)).save(folder / "e.png")
    assert read(folder).warnings == (
        "d.png is 400 x 100 pixels: the square in its middle is used, and 75% of it is lost; crop it to"
        " the subject",
    )


def test_a_photo_that_is_scaled_up_more_than_twice_is_told(folder):
    found = read_photos(folder, 200, lambda image, crop: None)
    assert found.warnings[0] == (
        "a.png is 80 x 100 pixels and is scaled up 2.5 times: it has no details to learn;"
        " use a larger one"
    )
    assert len(found.warnings) == 3


def test_a_jpeg_without_its_end_is_told(folder):
    content = io.BytesIO()
    picture(7).save(content, format="JPEG")
    (folder / "d.jpg").write_bytes(content.getvalue()[:-2])
    found = read(folder)
    assert len(found.photos) == 4
    assert found.warnings[0].startswith("d.jpg lacks its end marker")


def test_names_that_are_no_utf_8_are_escaped(folder):
    (folder / "b.png").rename(folder / os.fsdecode(b"gr\xf6\xdfe\n.png"))
    (folder / "größe.png").write_bytes(b"")
    found = read(folder)
    assert [photo.name for photo in found.photos] == ["a.png", "c.png", r"gr\xf6\xdfe\n.png"]
    assert found.quarantined[0].name == "größe.png"
    json.dumps([photo.name for photo in found.photos], ensure_ascii=False).encode()


def subject_of(kind, identifier, class_noun):
    words = {"kind": kind, "identifier": identifier, "classNoun": class_noun}
    return Subject.model_validate_json(json.dumps({**words, "images": {"configMap": "photos"}}))


PROMPTS = {
    None: "a photo of Sks dog",
    "sks dog on the grass": "sks dog on the grass",
    "a dog, SKS, asleep": "a dog, SKS, asleep",
    "asksome dog": "Sks dog, asksome dog",
    "asleep on a sofa": "Sks dog, asleep on a sofa",
    "[identifier] asleep": "Sks asleep",
}


@pytest.mark.parametrize("caption", PROMPTS)
def test_a_caption_is_the_prompt_with_the_words_of_the_subject(caption):
    subject = subject_of("Animal", "Sks", "dog")
    assert subject.photo_prompt(caption) == PROMPTS[caption]


def test_a_caption_of_a_style_names_the_style():
    subject = subject_of("Style", "<ink>", "cat")
    assert subject.photo_prompt("a tree") == "a tree, in the style of <ink>"
    assert subject.photo_prompt("a tree in <ink> style") == "a tree in <ink> style"
