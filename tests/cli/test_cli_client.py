"""`darkroom.Client` and `AsyncClient` against the server's real routes."""

import asyncio
import io

import pytest
from PIL import Image

from darkroom import AsyncClient, Client, DarkroomError
from darkroom.server_process import free_port


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 16)).save(path)
    return path


def test_images_come_as_png_with_their_seeds(server_url):
    with Client(server_url) as client:
        images = client.generate("a photo of sks dog", model="rex", n=2, size="32x24", seed=7)
    assert [image.seed for image in images] == [7, 8]
    assert Image.open(io.BytesIO(images[0].png)).size == (32, 24)


def test_the_servers_warnings_reach_the_caller(server_url):
    with Client(server_url) as client:
        (image,) = client.generate("long " * 40)
    assert image.warnings == ("the prompt was cut off",)


def test_a_picture_is_classified_from_a_path_or_bytes(server_url, picture):
    with Client(server_url) as client:
        likeliest = client.classify(picture, top_k=1)
        assert [one.label for one in likeliest] == ["dog"]
        assert client.classify(str(picture), top_k=1) == likeliest
        assert [one.score for one in client.classify(picture.read_bytes())] == [0.75, 0.25]


def test_models_are_listed_by_id(server_url):
    with Client(server_url) as client:
        assert client.models() == ["base", "rex"]


def test_the_asynchronous_client_does_the_same(server_url, picture):
    async def use():
        async with AsyncClient(server_url) as client:
            return await asyncio.gather(
                client.generate("a dog", seed=3), client.classify(picture), client.models()
            )

    images, predictions, models = asyncio.run(use())
    with Client(server_url) as client:
        assert images == client.generate("a dog", seed=3)
        assert predictions == client.classify(picture)
        assert models == client.models()


def test_a_refusal_says_which_parameter_is_wrong(server_url):
    with Client(server_url) as client, pytest.raises(DarkroomError) as refused:
        client.generate("a dog", size="7x9")
    assert (refused.value.status, refused.value.param) == (400, "size")
    assert "7x9" in refused.value.message
    with Client(server_url) as client, pytest.raises(DarkroomError) as unknown:
        client.generate("a dog", model="max")
    assert (unknown.value.status, unknown.value.code) == (404, "no_model")


def test_a_server_that_does_not_run_is_named():
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(DarkroomError, match="is darkroom serve running"):
        client.models()

    async def use():
        async with AsyncClient(url) as client:
            await client.models()

    with pytest.raises(DarkroomError, match=url):
        asyncio.run(use())


def test_another_servers_answer_is_an_error(server_url):
    with Client(f"{server_url}/elsewhere") as client, pytest.raises(DarkroomError) as error:
        client.models()
    assert error.value.status == 404
    with Client(f"{server_url}/docs#") as client, pytest.raises(DarkroomError, match="shape"):
        client.models()


@pytest.mark.parametrize("url", ["no address", "ftp://127.0.0.1", "http://"])
def test_an_address_that_is_none_is_an_error(url):
    with Client(url) as client, pytest.raises(DarkroomError):
        client.models()
