"""`darkroom generate` and `classify`: files that say how they were made, and none overwritten."""

import json

import pytest
from PIL import Image

from darkroom.server_process import free_port


def test_a_picture_says_how_it_was_made(tmp_path, server_url, darkroom):
    output = tmp_path / "dog.png"
    arguments = ("--model", "rex", "--seed", 7, "--size", "24x24", "--url", server_url)
    result = darkroom("generate", "a photo of sks dog", "--output", output, *arguments)
    assert result.exit_code == 0, result.output
    with Image.open(output) as image:
        assert image.size == (24, 24)
        assert image.text == {"prompt": "a photo of sks dog", "seed": "7", "model": "rex"}


def test_several_pictures_are_numbered(tmp_path, server_url, darkroom):
    arguments = ("-n", 3, "--seed", 5, "--url", server_url, "--json")
    result = darkroom("generate", "a dog", "--output", tmp_path / "dog.png", *arguments)
    assert result.exit_code == 0, result.output
    names = ["dog-1.png", "dog-2.png", "dog-3.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["seed"] for line in lines] == [5, 6, 7]
    assert [line["file"] for line in lines] == [str(tmp_path / name) for name in names]


PROMPTS = """\
# what the shop wants
a dog in the snow

{"prompt": "a dog at sea", "n": 2, "size": "24x24"}
a dog on the moon
"""


def draw_file(darkroom, server_url, tmp_path, *arguments, text=PROMPTS):
    """Draws the prompts of a file; the result, and what it printed by picture."""
    file = tmp_path / "prompts.txt"
    file.write_text(text)
    given = ("--prompts", file, "--output", tmp_path / "dog.png", "--url", server_url, "--json")
    result = darkroom("generate", *given, *arguments)
    return result, [json.loads(line) for line in result.stdout.splitlines()]


def test_the_prompts_of_a_file_are_drawn_one_after_the_other(tmp_path, server_url, darkroom):
    result, drawn = draw_file(darkroom, server_url, tmp_path, "--seed", 5, "--model", "rex")
    assert result.exit_code == 0, result.output
    sea = "a dog at sea"
    assert [one["prompt"] for one in drawn] == ["a dog in the snow", sea, sea, "a dog on the moon"]
    assert [one["seed"] for one in drawn] == [5, 6, 7, 8]
    assert {one["model"] for one in drawn} == {"rex"}
    assert [one["file"] for one in drawn] == [str(tmp_path / f"dog-{i}.png") for i in range(1, 5)]
    sizes = [Image.open(one["file"]).size for one in drawn]
    assert sizes[1] == sizes[2] == (24, 24) != sizes[0] == sizes[3]


@pytest.mark.parametrize("seed", [(), ("--seed", 7)])
def test_with_the_same_noise_each_prompt_begins_with_the_same_seed(
    tmp_path, server_url, darkroom, seed
):
    result, drawn = draw_file(darkroom, server_url, tmp_path, "--same-noise", *seed)
    assert result.exit_code == 0, result.output
    snow, sea, second_sea, moon = (one["seed"] for one in drawn)
    assert snow == sea == moon == second_sea - 1
    assert snow == 7 or not seed


def test_a_line_may_have_a_seed_of_its_own(tmp_path, server_url, darkroom):
    text = 'a dog\n{"prompt": "a cat", "seed": 99}\n'
    _, drawn = draw_file(darkroom, server_url, tmp_path, "--same-noise", "--seed", 1, text=text)
    assert [one["seed"] for one in drawn] == [1, 99]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# only this\n", "prompts.txt holds no prompt; write one a line"),
        ("a dog\n{a dog}\n", "prompts.txt, line 2: is not JSON"),
        ('{"n": 2}\n', "prompts.txt, line 1: prompt: is missing"),
        ('{"prompt": "a", "step": 3}\n', "prompts.txt, line 1: step: is unknown; there are model"),
        ('{"prompt": "a", "n": "2"}\n', "line 1: n: must be a whole number from 1 on; it is '2'"),
        ('a\n{"prompt": "a", "num_inference_steps": 0}\n', "line 2: num_inference_steps"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(
    tmp_path, server_url, darkroom, text, problem
):
    result, _ = draw_file(darkroom, server_url, tmp_path, text=text)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("prompts", [(), ("a dog", "--prompts", "prompts.txt")])
def test_there_is_one_prompt_or_a_file_of_them(tmp_path, darkroom, prompts):
    result = darkroom("generate", *prompts, "--output", tmp_path / "dog.png")
    assert result.exit_code == 1
    assert result.stderr == "give either a PROMPT or a file of them with --prompts\n"


def test_a_file_of_prompts_that_can_not_be_read_is_named(tmp_path, darkroom):
    (tmp_path / "latin.txt").write_bytes(b"gr\xf6\xdfer\n")
    for name, problem in (("no.txt", "No such file or directory"), ("latin.txt", "is not UTF-8")):
        output = tmp_path / "dog.png"
        result = darkroom("generate", "--prompts", tmp_path / name, "--output", output)
        assert result.exit_code == 1
        assert problem in result.stderr


def test_no_file_is_overwritten_without_force(tmp_path, server_url, darkroom):
    (tmp_path / "dog-2.png").write_text("precious")
    arguments = ("generate", "a dog", "-n", 2, "--output", tmp_path / "dog.png")
    result = darkroom(*arguments, "--url", server_url)
    assert result.exit_code == 1
    assert "dog-2.png exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["dog-2.png"]
    assert (tmp_path / "dog-2.png").read_text() == "precious"
    assert darkroom(*arguments, "--url", server_url, "--force").exit_code == 0


def test_a_folder_that_is_missing_is_said_before_anything_is_drawn(tmp_path, darkroom):
    url = f"http://127.0.0.1:{free_port()}"
    output = tmp_path / "nowhere" / "dog.png"
    result = darkroom("generate", "a dog", "--output", output, "--url", url)
    assert result.exit_code == 1
    assert "its folder does not exist" in result.stderr


def test_a_refusal_is_printed_plainly(tmp_path, server_url, darkroom):
    output = tmp_path / "dog.png"
    result = darkroom("generate", "a dog", "--output", output, "--steps", 0, "--url", server_url)
    assert result.exit_code == 1
    assert "num_inference_steps" in result.stderr
    assert "Traceback" not in result.stderr
    assert not output.exists()


def test_the_servers_warnings_are_printed(tmp_path, server_url, darkroom):
    output = tmp_path / "dog.png"
    result = darkroom("generate", "long " * 40, "--output", output, "--url", server_url)
    assert result.exit_code == 0
    assert "warning: the prompt was cut off" in result.stderr


def test_a_prompt_in_any_script_is_in_the_picture(tmp_path, server_url, darkroom):
    output = tmp_path / "dog.png"
    darkroom("generate", "größer 犬", "--output", output, "--seed", 1, "--url", server_url)
    with Image.open(output) as image:
        assert image.text["prompt"] == "größer 犬"


def test_a_folder_is_no_picture_also_with_force(tmp_path, darkroom):
    result = darkroom("generate", "a dog", "--output", tmp_path, "--force")
    assert result.exit_code == 1
    assert result.stderr == f"{tmp_path} is a folder; name a file in it\n"


@pytest.mark.parametrize("command", ["generate", "init"])
def test_a_file_that_can_not_be_is_said(command, tmp_path, darkroom):
    file = tmp_path / f"{'x' * 300}.png"
    arguments = {
        "generate": ("a dog", "--output", file),
        "init": (file, "--kind", "Animal", "--class-noun", "dog", "--photos", "photos"),
    }
    result = darkroom(command, *arguments[command])
    assert result.exit_code == 1
    assert result.stderr == f"{file}: can't be written: File name too long; check the path\n"


def test_a_full_disk_is_said(tmp_path, server_url, darkroom):
    (tmp_path / "dog.png").symlink_to("/dev/full")
    arguments = ("--output", tmp_path / "dog.png", "--force", "--url", server_url)
    result = darkroom("generate", "a dog", *arguments)
    assert result.exit_code == 1
    assert "dog.png: can't be written: No space left on device" in result.stderr


def test_the_picture_that_the_server_refuses_is_named_and_the_others_are_classified(
    tmp_path, server_url, darkroom
):
    good, empty, other = (tmp_path / name for name in ("good.png", "empty.png", "other.png"))
    for file in (good, other):
        Image.new("RGB", (8, 8)).save(file)
    empty.touch()
    result = darkroom("classify", good, empty, other, good, "--json", "--url", server_url)
    assert result.exit_code == 1
    assert result.stderr == f"{empty}: image: is empty (0 bytes); use a picture's file\n"
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(good), str(other), str(good)]


def test_pictures_are_classified_in_a_table_or_json(tmp_path, server_url, darkroom):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        Image.new("RGB", (8, 8)).save(file)
    result = darkroom("classify", *files, "--url", server_url)
    assert result.exit_code == 0
    assert result.stdout.count("dog") == 2
    assert "75.0%" in result.stdout
    result = darkroom("classify", *files, "--top-k", 1, "--json", "--url", server_url)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == list(map(str, files))
    assert lines[0]["predictions"] == [{"label": "dog", "score": 0.75}]


def test_a_picture_that_is_not_there_is_named(tmp_path, darkroom):
    result = darkroom("classify", tmp_path / "absent.png")
    assert result.exit_code == 1
    assert "absent.png: can't be read: No such file or directory" in result.stderr


def test_a_server_that_does_not_run_is_said(tmp_path, darkroom):
    url = f"http://127.0.0.1:{free_port()}"
    result = darkroom("generate", "a dog", "--output", tmp_path / "dog.png", "--url", url)
    assert result.exit_code == 1
    assert result.stderr == f"can't reach {url}: is darkroom serve running there?\n"


@pytest.mark.parametrize("name", ["dog.jpg", "dog.webp", "dog"])
def test_a_suffix_of_another_format_is_refused(name, tmp_path, darkroom):
    result = darkroom(
        "generate", "a dog", "--output", tmp_path / name, "--url", "http://127.0.0.1:9"
    )
    assert result.exit_code == 1
    assert result.stderr == (
        f"--output: {tmp_path / name}: pictures are PNG files, which hold how they were made; name it"
        f" {tmp_path / 'dog.png'}\n"
    )
