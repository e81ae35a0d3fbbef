"""Requests are read strictly; what is refused is refused with the field and what to do about it."""

import json
from dataclasses import replace

import pytest

from darkroom_sampling.samplers import Sampler
from darkroom_serving.errors import ApiError, error_body
from darkroom_serving.settings import Limits
from darkroom_serving.web.parsing import parse_images_request
from darkroom_serving.web.wire import shown

SAMPLERS = "ddim, ddpm, dpmsolver++, euler, euler_a, heun, pndm, unipc"
NOT_WHOLE = "write digits, without quotes or a point"

REFUSED = [
    ({"prompt": None}, "prompt: is missing; add it"),
    ({"prompt": ""}, "prompt: is empty; fill it"),
    ({"prompt": " \n"}, "prompt: is blank; say what to draw"),
    ({"prompt": ["a dog"]}, "prompt: must be a string, not a list; write it in quotes"),
    (
        {"prompt": "x" * 4001},
        "prompt: has 4001 characters, at most 4000 are read; shorten it",
    ),
    (
        {"negative_prompt": "x" * 5000},
        "negative_prompt: has 5000 characters, at most 4000 are read; shorten it",
    ),
    ({"n": 0}, "n: must be at least 1; it is 0: change it"),
    ({"n": 11}, "n: must be at most 10; it is 11: change it"),
    ({"n": True}, f"n: must be a whole number, not a boolean; {NOT_WHOLE}"),
    ({"n": "2"}, f"n: must be a whole number, not a string; {NOT_WHOLE}"),
    (
        {"size": "7x9"},
        "size: both sides must be multiples of 8 pixels; it is 7x9: try 8x8",
    ),
    (
        {"size": "100x64"},
        "size: both sides must be multiples of 8 pixels; it is 100x64: try 96x64",
    ),
    ({"size": "big"}, 'size: "big" is not a size; write WIDTHxHEIGHT, for example 64x64'),
    ({"size": "0x64"}, 'size: "0x64" is not a size; write WIDTHxHEIGHT, for example 64x64'),
    ({"size": 64}, "size: must be a string, not a number; write it in quotes"),
    ({"size": "64x2048"}, "size: 64x2048 is too large; no side may exceed 1024 pixels"),
    (
        {"response_format": "url"},
        'response_format: "url" is not available, images are not kept on the server;'
        " ask for b64_json",
    ),
    (
        {"output_format": "jpeg"},
        'output_format: "jpeg" is not available; leave it out, or set png',
    ),
    ({"stream": True}, "stream: true is not available; leave it out, or set false"),
    (
        {"num_inference_steps": 0},
        "num_inference_steps: must be at least 1; it is 0: change it",
    ),
    (
        {"num_inference_steps": 201},
        "num_inference_steps: must be at most 200; it is 201: change it",
    ),
    (
        {"guidance_scale": "3"},
        "guidance_scale: must be a number, not a string; write it without quotes",
    ),
    ({"eta": 2}, "eta: must be at most 1.0; it is 2: change it"),
    ({"guidance_scale": -1}, "guidance_scale: must be at least 0.0; it is -1: change it"),
    ({"guidance_scale": float("nan")}, "guidance_scale: is not finite; write a number"),
    ({"seed": -1}, "seed: must be at least 0; it is -1: change it"),
    (
        {"seed": 2**64},
        "seed: must be at most 9223372036854775807; it is 18446744073709551616: change it",
    ),
    (
        {"seed": 1.5},
        f"seed: must be a whole number, not a number with a point; {NOT_WHOLE}",
    ),
    (
        {"sampler": "eular"},
        f'sampler: "eular" is not one of {SAMPLERS}; did you mean euler?',
    ),
    ({"sampler": "x"}, f'sampler: "x" is not one of {SAMPLERS}; choose one of them'),
    ({"promt": "a"}, "promt: is unknown; did you mean prompt?"),
    ({"": 1}, '"": is unknown; leave it out, see /docs for those there are'),
    ({"promt": None}, "promt: is unknown; did you mean prompt?"),
    ({"zzz": 1}, "zzz: is unknown; leave it out, see /docs for those there are"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[text[:50] for _, text in REFUSED])
def test_a_wrong_field_is_refused_with_its_name_and_a_fix(fields, message):
    with pytest.raises(ApiError) as caught:
        parse_images_request(json.dumps({"prompt": "a dog", **fields}).encode(), Limits())
    assert caught.value.message == message
    assert caught.value.status == 400
    assert caught.value.param == message.partition(":")[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"",
            "the body is not JSON: Expecting value: line 1 column 1 (char 0); send a JSON object",
        ),
        (b"[1]", "the body is not a JSON object; send a JSON object"),
        (
            b"{",
            "the body is not JSON: Expecting property name enclosed in double quotes:"
            " line 1 column 2 (char 1); send a JSON object",
        ),
        (b"\xff", "the body can't be read; send a JSON object in UTF-8"),
        (b"[" * 100_000, "the body can't be read; send a JSON object in UTF-8"),
        (b"1" * 5000, "the body can't be read; send a JSON object in UTF-8"),
        (
            b'{"\\ud800": 1}',
            "\\ud800: is unknown; leave it out, see /docs for those there are",
        ),
        (b'{"prompt": "\\ud800"}', "the body is not valid JSON text; send text in UTF-8"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body, message):
    with pytest.raises(ApiError) as caught:
        parse_images_request(body, Limits())
    assert caught.value.message == message


def test_what_is_left_out_or_null_takes_its_default():
    body = {"prompt": "a dog", "n": None, "size": None, "seed": None, "user": None}
    request = parse_images_request(json.dumps(body).encode(), Limits())
    assert (request.n, request.sides, request.seed) == (1, None, None)
    assert request.sampler is Sampler.DDIM


def test_every_field_is_read():
    body = {
        "prompt": "a dog",
        "model": "rex",
        "n": 3,
        "size": "64x32",
        "response_format": "b64_json",
        "negative_prompt": "a cat",
        "num_inference_steps": 7,
        "guidance_scale": 3,
        "seed": 2**63 - 1,
        "sampler": "dpmsolver++",
    }
    request = parse_images_request(json.dumps(body).encode(), Limits())
    assert request.model_dump(include=set(body)) == body
    assert request.sides == (64, 32)


def test_openais_own_fields_are_taken_and_not_used():
    ignored = {"user": "me", "quality": "hd", "style": "vivid", "moderation": "low"}
    body = {"prompt": "a dog", **ignored, "background": "opaque"}
    assert parse_images_request(json.dumps(body).encode(), Limits()).prompt == "a dog"


def test_a_server_may_allow_less():
    limits = replace(Limits(), max_images=2, max_side=64)
    with pytest.raises(ApiError, match="n: must be at most 2; it is 3"):
        parse_images_request(b'{"prompt": "a", "n": 3}', limits)


def test_letters_of_other_languages_are_shown_as_they_are():
    assert shown("smørrebrød") == '"smørrebrød"'
    assert shown(["ø", "\udce5"]) == '["ø", "\\udce5"]'


def test_an_error_has_openais_shape():
    error = ApiError(400, "n: is wrong", "n", "bad")
    fields = {"message": "n: is wrong", "type": "invalid_request_error"}
    assert error_body(error) == {"error": {**fields, "param": "n", "code": "bad"}}
