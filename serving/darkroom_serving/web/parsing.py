"""Bodies of requests to checked models, or an error that names the field and what to do about it."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from darkroom_serving.errors import ApiError, bad_request
from darkroom_serving.web.wire import MAX_SHOWN, shown

_Model = TypeVar("_Model", bound=BaseModel)

_SEE: Final = "leave it out, see /docs for those there are"


def parse_body(model: type[_Model], body: bytes) -> _Model:
    """Reads and checks a JSON body; raises ApiError for the first thing that is wrong."""
    fields = read_object(body)
    # Here, because pydantic would first collect the errors of a million fields.
    check_names(fields, list(model.model_fields))
    return parse_fields(model, fields)


def parse_fields(model: type[_Model], fields: Mapping[str, Any]) -> _Model:
    """Checks fields whose names are known; raises ApiError for the first that is wrong."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        # JSON again: the models are strict, and only in JSON may a sampler be a string.
        return model.model_validate_json(json.dumps(given))
    except ValidationError as error:
        raise _explain(error.errors(include_url=False)[0]) from None


def read_object(body: bytes) -> dict[str, Any]:
    """The fields of a JSON body; raises ApiError for a body that is no object."""
    try:
        value = json.loads(body)
    except json.JSONDecodeError as error:
        raise bad_request(None, f"the body is not JSON: {error}", "send a JSON object") from None
    except (ValueError, RecursionError):  # not UTF-8, thousands of digits or of brackets
        raise bad_request(None, "the body can't be read", "send a JSON object in UTF-8") from None
    if not isinstance(value, dict):
        raise bad_request(None, "the body is not a JSON object", "send a JSON object")
    return value


def read_strict_object(body: bytes) -> dict[str, Any]:
    """As `read_object`; refuses also NaN, infinity and half characters, which an answer can't repeat."""
    fields = read_object(body)
    try:
        json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise _not_json() from None
    return fields


def check_names(names: Iterable[str], known: list[str]) -> None:
    """Raises ApiError for the first name that is none of those that are known."""
    for name in names:
        if name not in known:
            short = shown(name).strip('"') or '""'
            raise bad_request(short, "is unknown", _near(name, known) or _SEE, "unknown_parameter")


def _near(value: str, known: list[str]) -> str | None:
    """A guess at what was meant, when there is one that is near."""
    near = difflib.get_close_matches(value[:MAX_SHOWN].lower(), known, n=1)
    return f"did you mean {near[0]}?" if near else None


def _not_json() -> ApiError:
    return bad_request(None, "the body is not valid JSON text", "send text in UTF-8")


def _explain(error: ErrorDetails) -> ApiError:
    """One of pydantic's errors in words."""
    if error["type"] == "json_invalid":  # what Python takes for JSON and others don't
        return _not_json()
    name = str(error["loc"][0])
    translate = _TRANSLATIONS.get(error["type"], _fallback)
    problem, fix = translate(error["input"], error.get("ctx", {}))
    return bad_request(name, problem, fix)


_Context = Mapping[str, Any]


def _bound(relation: str, key: str) -> Callable[[Any, _Context], tuple[str, str]]:
    def translate(value: Any, context: _Context) -> tuple[str, str]:
        return f"must be {relation} {context[key]}", f"it is {shown(value)}: change it"

    return translate


def _type(wanted: str, fix: str) -> Callable[[Any, _Context], tuple[str, str]]:
    def translate(value: Any, _: _Context) -> tuple[str, str]:
        kind = _KINDS.get(type(value), type(value).__name__)
        return f"must be {wanted}, not {kind}", fix

    return translate


def _missing(*_: Any) -> tuple[str, str]:
    return "is missing", "add it"


def _empty(*_: Any) -> tuple[str, str]:
    return "is empty", "fill it"


def _infinite(*_: Any) -> tuple[str, str]:
    return "is not finite", "write a number"


def _choice(value: Any, context: _Context) -> tuple[str, str]:
    expected = str(context["expected"]).replace(" or ", ", ")
    choices = [choice.strip().strip("'") for choice in expected.split(",")]
    if len(choices) == 1:
        return f"{shown(value)} is not available", f"leave it out, or set {choices[0].lower()}"
    fix = _near(str(value), choices) or "choose one of them"
    return f"{shown(value)} is not one of {', '.join(choices)}", fix


def _own(_: Any, context: _Context) -> tuple[str, str]:
    """Errors of our own validators are complete already."""
    problem, _, fix = str(context["error"]).rpartition("; ")
    return problem, fix


def _fallback(value: Any, _: _Context) -> tuple[str, str]:
    return f"{shown(value)} can't be used", "correct it"


_KINDS: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number with a point",
    str: "a string",
    list: "a list",
    dict: "an object",
}

_TRANSLATIONS: Final = {
    "missing": _missing,
    "string_type": _type("a string", "write it in quotes"),
    "int_type": _type("a whole number", "write digits, without quotes or a point"),
    "int_from_float": _type("a whole number", "write digits, without quotes or a point"),
    "float_type": _type("a number", "write it without quotes"),
    "finite_number": _infinite,
    "string_too_short": _empty,
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "enum": _choice,
    "literal_error": _choice,
    "value_error": _own,
}
