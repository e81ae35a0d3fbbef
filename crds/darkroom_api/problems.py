"""Says in words what is wrong with a job: pydantic's errors as problems with a field and a fix."""

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from darkroom_api import fields, pods
from darkroom_api.job import (
    DNS_LABEL,
    IDENTIFIER_PATTERN,
    PersonalizationJob,
)
from darkroom_api.names import API_VERSION, KIND
from darkroom_api.rules import Rule
from darkroom_api.status import DIGEST, METRIC_NAME, METRIC_VALUE
from darkroom_api.words import counted


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a job file."""

    field: str
    """Path of the field, as in `spec.training.maxSteps`; empty for the file as a whole."""

    message: str
    """What is wrong."""

    fix: str
    """What to do about it."""

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}; {self.fix}"


PATTERNS: Final[dict[str, str]] = {
    DNS_LABEL: "use lower-case letters, digits and -, beginning and ending with a letter or digit",
    fields.DNS_SUBDOMAIN: "use lower-case letters, digits, - and .",
    IDENTIFIER_PATTERN: "use letters, digits, _ and -, perhaps within < and >, for example sks or <sks>",
    fields.CLASS_NOUN_PATTERN: "use a plain word, for example dog",
    fields.RFC3339_UTC: "write a time in UTC, for example 2027-06-30T00:00:00Z",
    DIGEST: "use the 64 hex digits of a sha256",
    METRIC_NAME: "use letters, digits and _",
    METRIC_VALUE: 'write a decimal number in a string, for example "0.25"',
    fields.DECIMAL_PATTERN: 'write a decimal number in a string, for example "5e-6" or "1.0"',
    fields.MODEL_URI_PATTERN: "use hf://ORG/NAME@COMMIT (40 hex digits), s3://, gs://, pvc://CLAIM/path,"
    " file:PATH or builtin:miniature",
    fields.IMAGES_URI_PATTERN: "use s3://, gs://, pvc://CLAIM/path, file:PATH or builtin:mascot",
    fields.OUTPUT_URI_PATTERN: "use s3://, gs://, pvc://CLAIM/path or file:PATH",
    pods.QUANTITY_PATTERN: "write a quantity, for example 500m, 4 or 16Gi",
    pods.LABEL_KEY_PATTERN: "write a label's key, for example nvidia.com/gpu.product",
    pods.LABEL_VALUE_PATTERN: "use letters, digits, -, _ and .",
    pods.ENV_NAME_PATTERN: "use letters, digits and _, beginning with a letter or _",
    pods.CONFIG_KEY_PATTERN: "use letters, digits, -, _ and .",
}
"""What to write where a pattern does not match."""

_ALWAYS: Final = {"apiVersion": f"apiVersion: {API_VERSION}", "kind": f"kind: {KIND}"}

KINDS: Final[dict[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number with a point",
    list: "a list",
    dict: "a mapping",
    type(None): "empty",
}


def kind_of(value: object) -> str:
    """What a YAML value is, in words."""
    kind = type(value)
    return KINDS.get(kind, kind.__name__)


_Translate = Callable[[ErrorDetails, dict[str, Any]], tuple[str, str]]


def problems_of(error: ErrorDetails, written: str | None = None) -> tuple[Problem, ...]:
    """One error of pydantic as problems: a broken set of rules is one error for pydantic.

    `written` is what stands in the file there, in the user's own characters.
    """
    path = list(error["loc"])
    context = error.get("ctx", {}) | {"written": written}
    if error["type"] == "spec_rules":
        return tuple(_broken(rule, path) for rule in context["rules"])
    if error["type"] == "too_short" and len(error["input"]) >= context["min_length"]:
        return ()  # pydantic does not count items that are wrong: they have problems of their own
    translate: _Translate = _TRANSLATIONS.get(error["type"], _fallback)
    message, fix = translate(error, context)
    return (Problem(_dotted(path), message, fix),)


def _broken(rule: Rule, path: list[Any]) -> Problem:
    message, _, fix = rule.message.partition(": ")
    return Problem(_dotted([*path, *rule.field.split(".")]), message, fix)


def _dotted(path: list[Any]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_word(part)}" for part in path)
    return text.removeprefix(".")


def _word(key: str) -> str:
    """A key as it stands; one that would tear the line, or flood it, in quotes."""
    return key if re.fullmatch(r"[\w./-]{1,60}", key) else _shown(key)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _typed(error: ErrorDetails, context: dict[str, Any]) -> str:
    """A number or a boolean as the user typed it: `no`, `1e3`; JSON's form of it where that is unknown."""
    value, written = error["input"], context["written"]
    plain = isinstance(value, (bool, int, float)) and written is not None
    return _word(written) if plain else _shown(value)


def _nearest(word: object, choices: list[str]) -> str | None:
    by_case = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(word).lower(), by_case, n=1, cutoff=0.6)
    return by_case[near[0]] if near else None


def _fields_at(path: list[Any]) -> list[str]:
    """Names that the object at a path may hold."""
    model: type[BaseModel] = PersonalizationJob
    for name in path:
        if isinstance(name, str):
            field = next(f for f in model.model_fields.values() if f.alias == name)
            model = next(_models_in(field.annotation))
    return [str(field.alias) for field in model.model_fields.values()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _unknown(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    *parents, name = error["loc"]
    known = _fields_at(list(parents))
    near = _nearest(name, known)
    return "unknown field", f"did you mean {near}?" if near else f"there are {', '.join(known)}"


def _missing(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    name = str(error["loc"][-1])
    at_top = len(error["loc"]) == 1
    return "is missing", f"add {_ALWAYS.get(name, name) if at_top else name}"


def _not_a_string(error: ErrorDetails, context: dict[str, Any]) -> tuple[str, str]:
    value = error["input"]
    if isinstance(value, (bool, int, float)):
        return (
            f"is {kind_of(value)}, not a string",
            f'write it in quotes: "{_typed(error, context)}"',
        )
    return f"is {kind_of(value)}, not a string", "write text"


def _not_a_number(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    value = error["input"]
    return f"is {kind_of(value)}, not a whole number", "write digits without quotes or a point"


def _not_a_boolean(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    return f"is {kind_of(error['input'])}, not a boolean", "write true or false, without quotes"


def _not_a_mapping(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    return f"is {kind_of(error['input'])}, not a mapping", "write its fields below it, indented"


def _not_a_list(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    return f"is {kind_of(error['input'])}, not a list", "write each item on a line after a -"


def _choice(error: ErrorDetails, context: dict[str, Any]) -> tuple[str, str]:
    expected = str(context["expected"]).replace(" or ", ", ")
    choices = [choice.strip().strip("'") for choice in expected.split(",")]
    near = _nearest(error["input"], choices)
    message = f"{_typed(error, context)} is not one of {', '.join(choices)}"
    return message, f"did you mean {near}?" if near else "choose one of them"


def _pattern(error: ErrorDetails, context: dict[str, Any]) -> tuple[str, str]:
    return f"{_shown(error['input'])} has the wrong form", PATTERNS[str(context["pattern"])]


def _bound(relation: str, key: str, unit: str = "") -> _Translate:
    def translate(error: ErrorDetails, context: dict[str, Any]) -> tuple[str, str]:
        limit = f"{context[key]}{unit}"
        return f"must be {relation} {limit}", f"it is {_typed(error, context)}: change it"

    return translate


def _length(relation: str, key: str, unit: str) -> _Translate:
    def translate(error: ErrorDetails, context: dict[str, Any]) -> tuple[str, str]:
        count = len(error["input"])
        return (
            f"has {counted(count, unit)}; {relation} {context[key]}",
            "shorten it" if "most" in relation else "fill it",
        )

    return translate


def _not_a_date(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    return f"{_shown(error['input'])} is not a day of the calendar", "correct the date"


def _fallback(error: ErrorDetails, _: dict[str, Any]) -> tuple[str, str]:
    return error["msg"], "correct it"


_TRANSLATIONS: Final[dict[str, _Translate]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "string_type": _not_a_string,
    "int_type": _not_a_number,
    "int_from_float": _not_a_number,
    "int_parsing": _not_a_number,
    "bool_type": _not_a_boolean,
    "model_type": _not_a_mapping,
    "model_attributes_type": _not_a_mapping,
    "dict_type": _not_a_mapping,
    "tuple_type": _not_a_list,
    "list_type": _not_a_list,
    "enum": _choice,
    "literal_error": _choice,
    "string_pattern_mismatch": _pattern,
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "multiple_of": _bound("a multiple of", "multiple_of"),
    "string_too_short": _length("it needs at least", "min_length", "character"),
    "string_too_long": _length("it may have at most", "max_length", "character"),
    "too_short": _length("it needs at least", "min_length", "item"),
    "too_long": _length("it may have at most", "max_length", "item"),
    "date": _not_a_date,
}
