"""Bodies of requests to classify, in every form that clients send: a file, a form, or JSON with base64."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Annotated, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field

from darkroom_serving.errors import ApiError, bad_request
from darkroom_serving.web.parsing import check_names, parse_body
from darkroom_serving.web.wire import DEFAULT_TOP_K, ScoreFunction, shown

MAX_PICTURES: Final = 16
"""Most pictures of one request."""

PICTURE_FIELDS: Final = ("image", "file", "inputs")
"""Fields of a form that hold a picture."""

OPTION_FIELDS: Final = ("top_k", "function_to_apply")

MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"

_COUNT: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)

_FORM: Final = re.compile(rb"(%s)=" % "|".join((*PICTURE_FIELDS, *OPTION_FIELDS)).encode())
"""How a form begins; no picture's file does."""

_DATA_URL: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_OTHER_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{1,19}:", re.IGNORECASE)
_WHITESPACE: Final = re.compile(r"\s+")

_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]


class _Body(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class ClassifyParameters(_Body):
    """Hugging Face's options of an image classification."""

    top_k: _Count | None = None
    """Number of labels in the answer."""

    function_to_apply: ScoreFunction | None = None
    """How scores come from logits; as the model's configuration says when absent."""


class ClassifyRequest(_Body):
    """JSON body of `POST /v1/classify`."""

    image: _Text | list[_Text] | None = None
    """The picture's file in base64, or as a data: URL; a list of them is answered with a list."""

    inputs: _Text | list[_Text] | None = None
    """Hugging Face's name of `image`."""

    top_k: _Count = DEFAULT_TOP_K
    """Number of labels in the answer; as many as there are when there are fewer."""

    parameters: ClassifyParameters = ClassifyParameters()
    """Hugging Face's place of the options."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a request asks for."""

    pictures: tuple[bytes, ...]
    """The pictures' files."""

    is_list: bool
    """Whether they are answered with a list, although there may be one."""

    top_k: int
    function: ScoreFunction | None


def parse_json(body: bytes) -> Order:
    """An order in JSON; raises ApiError."""
    request = parse_body(ClassifyRequest, body)
    if request.image is not None and request.inputs is not None:
        raise bad_request("inputs", "is another name of image", "send one of them")
    field = "image" if request.inputs is None else "inputs"
    texts = request.image if request.inputs is None else request.inputs
    if texts is None or texts == []:
        raise bad_request("image", "is missing", "add it")
    listed = texts if isinstance(texts, list) else [texts]
    _check_number(len(listed), field)
    return Order(
        pictures=tuple(decode_base64(text, field) for text in listed),
        is_list=isinstance(texts, list),
        top_k=request.parameters.top_k or request.top_k,
        function=request.parameters.function_to_apply,
    )


def parse_raw(body: bytes, query: Mapping[str, str]) -> Order:
    """An order whose body is the picture's file; raises ApiError."""
    top_k, function = _parse_options(query)
    return Order(pictures=(body,), is_list=False, top_k=top_k, function=function)


def parse_urlencoded(body: bytes, query: Mapping[str, str]) -> Order:
    """A form, or what curl sends by default: the picture's file under a form's name; raises ApiError."""
    if not _FORM.match(body):
        return parse_raw(body, query)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise bad_request(
            None, "the form can't be read", "send it as multipart/form-data"
        ) from None
    # A + that was not escaped has become a space.
    fields = [(name, value.replace(" ", "+").encode()) for name, value in pairs]
    return _parse_form(fields, query, base64_only=True)


def parse_multipart(body: bytes, content_type: str, query: Mapping[str, str]) -> Order:
    """A form with files; raises ApiError."""
    return _parse_form(_parts(body, content_type), query, base64_only=False)


def decode_base64(text: str, field: str) -> bytes:
    """Bytes of base64: strict, URL-safe, unpadded, in lines or as a data: URL; raises ApiError."""
    if match := _DATA_URL.match(text):
        text = text[match.end() :]
    elif _OTHER_URL.match(text):
        raise bad_request(
            field, "is a URL, and the server opens none", "send the picture's file in base64"
        )
    plain = _WHITESPACE.sub("", text).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(field, "is not base64", "encode the picture's file") from None


def _parse_form(
    fields: Iterable[tuple[str, bytes]], query: Mapping[str, str], *, base64_only: bool
) -> Order:
    pictures: list[bytes] = []
    options = dict(query)
    for name, value in fields:
        check_names([name], [*PICTURE_FIELDS, *OPTION_FIELDS])
        if name in OPTION_FIELDS:
            options[name] = value.decode(errors="replace").strip()
        elif base64_only or _is_base64_text(value):
            pictures.append(decode_base64(value.decode(errors="replace"), name))
        else:
            pictures.append(value)
    if not pictures:
        raise bad_request("image", "is missing", "add it")
    _check_number(len(pictures), "image")
    top_k, function = _parse_options(options)
    return Order(
        pictures=tuple(pictures), is_list=len(pictures) > 1, top_k=top_k, function=function
    )


def _is_base64_text(value: bytes) -> bool:
    """Whether a field is text: pictures' files have bytes at their start that no text has."""
    start = value[:64]
    return bool(start) and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)


def _parts(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    """Names and contents of a form's parts (RFC 7578, RFC 2046 section 5.1); raises ApiError."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if not boundary:
        raise bad_request("content-type", "has no boundary", "let the client write the header")
    separator = b"\r\n--" + boundary.encode("latin-1", errors="replace")
    most = MAX_PICTURES + len(OPTION_FIELDS) + 2
    pieces = (b"\r\n" + body).split(separator, most)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        problem = f"has no end, or more than {MAX_PICTURES} pictures"
        raise bad_request(None, f"the form {problem}", "send it whole, with fewer pictures")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> tuple[str, bytes]:
    head, _, content = piece.partition(b"\r\n\r\n")
    headers = BytesHeaderParser().parsebytes(head.lstrip(b" \t\r\n"))
    name = headers.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise bad_request(None, "a part of the form has no name", "call it image")
    return name, content


def _parse_options(options: Mapping[str, str]) -> tuple[int, ScoreFunction | None]:
    """The number of labels, and how they are scored; raises ApiError."""
    check_names(options, list(OPTION_FIELDS))
    text = options.get("top_k", str(DEFAULT_TOP_K))
    if not _COUNT.fullmatch(text):
        raise bad_request("top_k", f"{shown(text)} is not a number of labels", "write 1 or more")
    name = options.get("function_to_apply")
    try:
        return int(text), None if name is None else ScoreFunction(name)
    except ValueError:
        known = ", ".join(ScoreFunction)
        raise bad_request(
            "function_to_apply", f"{shown(name)} is unknown", f"use {known}"
        ) from None


def _check_number(count: int, field: str) -> None:
    if count > MAX_PICTURES:
        raise bad_request(field, f"has {count} pictures", f"send at most {MAX_PICTURES} at a time")


def refuse_media_type(media_type: str) -> ApiError:
    """The error of a content type that no picture has."""
    return ApiError(
        415,
        f"content-type: {media_type[:80]} is not read; send the picture's file as image/png or"
        f' application/octet-stream, a form, or application/json with {{"image": BASE64}}',
        None,
        "unsupported_media_type",
    )
