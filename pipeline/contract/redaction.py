"""What must not stand in a message, an error column or a log: credentials.

Taken out of a text are the user info and the query of every URL (presigned links carry both keys
and signatures there), and the values of environment variables that are secret by their name.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Characters; a shorter value would be found inside ordinary words."""
_SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|KEY|KEY_ID|CREDENTIALS)$", re.IGNORECASE
)
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)"
    r"(?:[^\s/?#'\"<>]*@)?"  # user info
    r"(?P<rest>[^\s?'\"<>]*)"
    r"(?:\?(?:[^\s'\"<>]*[^\s'\"<>.,:;)])?)?",  # query and fragment, not the sentence's own marks
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without credentials."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL.sub(r"\g<scheme>\g<rest>", text)


def _secrets() -> Iterator[str]:
    """Values of variables such as AWS_SECRET_ACCESS_KEY, HF_TOKEN or GOOGLE_API_KEY."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST_SECRET and _SECRET_NAME.search(name):
            yield value
