"""What clients write differently is read; what is refused is refused with the field and what to do about it."""

import json
from dataclasses import replace

import pytest

from darkroom_sampling.samplers import Sampler
from darkroom_serving.errors import ApiError, error_body
from darkroom_serving.settings import Limits
from darkroom_serving.web.images_body import parse_images_request, warnings_of
from darkroom_serving.web.wire import shown

SAMPLERS = ", ".join(Sampler)
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
    ({"n": "two"}, f"n: must be a whole number, not a string; {NOT_WHOLE}"),
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
    (
        {"size": "64x2048"},
        "size: 64x2048 is too large; no side may exceed 1024 pixels: try 32x1024",
    ),
    (
        {"size": "1792x1024"},
        "size: 1792x1024 is too large; no side may exceed 1024 pixels: try 1024x584",
    ),
    ({"width": 64}, "width: is one side only; add the other, or write size"),
    ({"width": 64, "height": "tall"}, 'height: "tall" is not a number of pixels; write digits'),
    (
        {"size": "64x32", "width": 64, "height": 64},
        'size: is "64x32", but width and height say 64x64; leave one out',
    ),
    (
        {"response_format": "file"},
        'response_format: "file" is not one of b64_json, url; choose one of them',
    ),
    (
        {"output_format": "gif"},
        'output_format: "gif" is not one of png, jpeg, webp; choose one of them',
    ),
    (
        {"output_compression": -999},
        "output_compression: must be at least 0; it is -999: change it",
    ),
    (
        {"background": "transparent"},
        'background: "transparent" is not one of auto, opaque; choose one of them',
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
        {"guidance_scale": "strong"},
        "guidance_scale: must be a number, not a string; write it without quotes",
    ),
    ({"eta": 2}, "eta: must be at most 1.0; it is 2: change it"),
    ({"guidance_scale": -1}, "guidance_scale: must be at least 0.0; it is -1: change it"),
    ({"guidance_scale": float("nan")}, "guidance_scale: is not finite; write a number"),
    ({"seed": -2}, "seed: must be at least 0; it is -2: change it"),
    ({"steps": 0}, "steps: must be at least 1; it is 0: change it"),
    ({"cfg_scale": 101}, "cfg_scale: must be at most 100.0; it is 101: change it"),
    ({"batch_size": 11}, "batch_size: must be at most 10; it is 11: change it"),
    (
        {"num_inference_steps": 20, "steps": 30},
        "steps: says the same as num_inference_steps, which is 20; leave one of them out",
    ),
    (
        {"sampler_name": "Euler a", "scheduler": "Karras"},
        'scheduler: "Karras" is not available with "Euler a";'
        " leave it out: the model's own noise levels are used",
    ),
    (
        {"sampler_name": "DPM adaptive"},
        f'sampler_name: "DPM adaptive" is not one of {SAMPLERS}; choose one of them',
    ),
    ({"step": 3}, "step: is unknown; did you mean steps?"),
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


READ = [
    ({"steps": "20"}, {"num_inference_steps": 20}),
    ({"steps": 20, "num_inference_steps": 20.0}, {"num_inference_steps": 20}),
    ({"n": 2.0, "cfg_scale": "7.5"}, {"n": 2, "guidance_scale": 7.5}),
    ({"batch_size": "2"}, {"n": 2}),
    ({"width": 64, "height": "32"}, {"size": "64x32"}),
    ({"width": 64, "height": 32, "size": "auto"}, {"size": "64x32"}),
    ({"size": " 64 X 32 "}, {"size": "64x32"}),
    ({"seed": -1}, {"seed": None}),
    ({"seed": "-1"}, {"seed": None}),
    ({"seed": "9223372036854775807"}, {"seed": 2**63 - 1}),
    ({"sampler_name": "DPM++ 2M"}, {"sampler": Sampler.DPMSOLVER}),
    ({"sampler_name": "DPM++ 2M Karras"}, {"sampler": Sampler.DPMSOLVER_KARRAS}),
    ({"sampler_name": "Euler a", "scheduler": "Automatic"}, {"sampler": Sampler.EULER_A}),
    ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, {"sampler": Sampler.DPMSOLVER_KARRAS}),
    ({"sampler": "euler", "scheduler": "exponential"}, {"sampler": Sampler.EULER_EXPONENTIAL}),
    ({"scheduler": "EulerDiscreteScheduler"}, {"sampler": Sampler.EULER}),
    ({"sampler": "k_euler_ancestral"}, {"sampler": Sampler.EULER_A}),
    ({"sampler": "PLMS"}, {"sampler": Sampler.PNDM}),
    ({"scheduler": None, "sampler": None}, {"sampler": Sampler.DDIM}),
]


@pytest.mark.parametrize(("fields", "read"), READ, ids=[str(fields) for fields, _ in READ])
def test_what_is_only_written_differently_is_read(fields, read):
    request = parse_images_request(json.dumps({"prompt": "a dog", **fields}).encode(), Limits())
    assert request.model_dump(include=set(read)) == read


def test_what_is_not_used_is_answered_with_a_warning():
    ignored = {"user": "me", "quality": "hd", "style": "vivid", "moderation": "low"}
    body = {"prompt": "a dog", **ignored, "background": "opaque", "output_compression": 50}
    request = parse_images_request(json.dumps(body).encode(), Limits())
    assert warnings_of(request) == [
        'user: "me" is not used',
        'quality: "hd" is not used',
        'style: "vivid" is not used',
        'moderation: "low" is not used',
        "output_compression: is not used with png, which loses nothing",
    ]


def test_what_asks_for_nothing_is_no_warning():
    body = {"prompt": "a dog", "quality": "auto", "moderation": "auto", "user": ""}
    assert warnings_of(parse_images_request(json.dumps(body).encode(), Limits())) == []


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
