"""Decides what is removed from messages, error columns and logs: credentials, and what is no text.

These are the user info and the query of every URL (where presigned links carry keys and
signatures), and the values of environment variables whose names say that they are secret. What
looks like the user of an Azure URL is a container, and stays. Half of a surrogate pair, as JSON may
hold it, can be written to no file and becomes a question mark.
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Characters; a shorter value could be part of ordinary words."""
_SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|KEY|KEY_ID|CREDENTIALS)$", re.IGNORECASE
)
"""Such as AWS_SECRET_ACCESS_KEY, HF_TOKEN or GOOGLE_API_KEY."""
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31}://)"  # bounded: a long word takes no quadratic time
    r"(?:(?<!abfs://)(?<!abfss://)(?<!\baz://)[^\s/?#'\"<>]*@)?"  # user info
    r"(?P<rest>[^\s?'\"<>]*)"
    r"(?:\?(?:[^\s'\"<>]*[^\s'\"<>.,:;)])?)?",  # query and fragment, not the sentence's own marks
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without credentials, as it can be written."""
    secrets = [
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_SECRET and _SECRET_NAME.search(name)
    ]
    for secret in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, HIDDEN)
    return _URL.sub(r"\g<scheme>\g<rest>", text).encode("utf-8", "replace").decode()
