"""Ray's words without what is for terminals."""

import re
from typing import Final

ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(error: BaseException) -> str:
    """What an error says, without colours; its type where it says nothing."""
    return ESCAPES.sub("", str(error)).strip() or type(error).__name__
