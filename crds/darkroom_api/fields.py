"""Building blocks of the API's models: the frozen base model and the constrained field types."""

from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

DECIMAL_PATTERN: Final = r"^[0-9]{1,6}(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?$"
"""A non-negative decimal number in a string: Kubernetes specs hold no floats."""

RFC3339_UTC: Final = r"^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
"""A time as Kubernetes writes it: in UTC, without fractions of a second."""

DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""A name that Kubernetes gives to most objects."""

HF_PATTERN: Final = (
    r"hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}@[0-9a-f]{40}"
)
OBJECT_PATTERN: Final = r"(s3|gs)://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()-]+)*/?"
CLAIM_PATTERN: Final = (
    r"pvc://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?"
)
FILE_PATTERN: Final = r"file:[^\x00-\x1f]+"

CLASS_NOUN_PATTERN: Final = r"^[A-Za-z0-9]+([ '-][A-Za-z0-9]+)*$"

MODEL_URI_PATTERN = (
    rf"^({HF_PATTERN}|{OBJECT_PATTERN}|{CLAIM_PATTERN}|{FILE_PATTERN}|builtin:miniature)$"
)
IMAGES_URI_PATTERN = rf"^({OBJECT_PATTERN}|{CLAIM_PATTERN}|{FILE_PATTERN}|builtin:mascot)$"
OUTPUT_URI_PATTERN = rf"^({OBJECT_PATTERN}|{CLAIM_PATTERN}|{FILE_PATTERN})$"

ModelUri = Annotated[
    str, StringConstraints(pattern=MODEL_URI_PATTERN, min_length=1, max_length=512)
]
ImagesUri = Annotated[
    str, StringConstraints(pattern=IMAGES_URI_PATTERN, min_length=1, max_length=512)
]
OutputUri = Annotated[
    str, StringConstraints(pattern=OUTPUT_URI_PATTERN, min_length=1, max_length=512)
]
ClassNoun = Annotated[
    str, StringConstraints(pattern=CLASS_NOUN_PATTERN, min_length=1, max_length=64)
]
ObjectName = Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)]
Decimal = Annotated[str, StringConstraints(pattern=DECIMAL_PATTERN, min_length=1, max_length=24)]


def real_date(value: str) -> str:
    """Returns an RFC 3339 time unchanged, or raises when the calendar has no such day."""
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("date", "not a day of the calendar") from error
    return value


Time = Annotated[
    str,
    StringConstraints(pattern=RFC3339_UTC),
    AfterValidator(real_date),
    # The pattern says all; the apiserver wants bounds to estimate costs.
    Field(json_schema_extra={"format": "date-time", "minLength": 20, "maxLength": 20}),
]


class ApiModel(BaseModel):
    """Base of every object of the API: immutable, camelCase on the wire, nothing unknown, nothing coerced."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """An object by its fields' Python names; the wire knows only those in camelCase."""
        return cls.model_validate(fields, by_name=True, by_alias=False)
