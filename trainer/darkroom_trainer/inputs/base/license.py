"""The licence of a base model, as its model card names it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

CARD: Final = "README.md"

_MAX_CARD_BYTES: Final = 1 << 20
_FRONT_MATTER: Final = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)
_NO_COMMERCE: Final = re.compile(r"(^|[^a-z])(nc|non-?commercial|research)([^a-z]|$)")


@dataclass(frozen=True)
class License:
    """What the model card says; nothing of it is legal advice."""

    identifier: str | None
    """In the Hub's words, such as `creativeml-openrail-m`; None where the card does not say."""

    name: str | None = None
    """Its own name, where the identifier is `other`."""

    @classmethod
    def of(cls, declared: str | None) -> Self:
        """Parses `declared` back."""
        found = re.fullmatch(r"(.+) \((.+)\)", declared or "")
        return cls(found[1], found[2]) if found else cls(declared)

    @property
    def declared(self) -> str | None:
        """Identifier and name in one line, as manifests have it."""
        return f"{self.identifier} ({self.name})" if self.name else self.identifier

    @property
    def forbids_commerce(self) -> bool:
        """Whether its name says so."""
        return bool(_NO_COMMERCE.search(str(self.declared).lower()))

    def __str__(self) -> str:
        if self.identifier is None:
            return "unknown: no model card names one"
        named = str(self.declared)
        if self.forbids_commerce:
            return f"{named}: forbids commercial use"
        return f"{named}: unknown to the Hub, read it" if self.identifier == "other" else named


def read_license(folder: Path) -> License:
    """The licence of a folder's model card; what can't be read says nothing."""
    if not (folder / CARD).is_file():
        return License(None)
    try:
        with (folder / CARD).open("rb") as file:
            text = file.read(_MAX_CARD_BYTES).decode(errors="replace")
        found = _FRONT_MATTER.match(text.replace("\r\n", "\n").removeprefix("\ufeff"))
        matter = yaml.safe_load(found[1]) if found else None
    except (OSError, yaml.YAMLError, RecursionError):
        return License(None)
    if not isinstance(matter, dict):
        return License(None)
    return License(_word(matter.get("license")), _word(matter.get("license_name")))


def _word(value: Any) -> str | None:
    """One line of text; the Hub takes a list as well."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return " ".join(str(value).split())[:100] or None if value else None
