"""Decides how files behind links are asked for: the query of a link is no part of a file's path.

The query of a presigned link is a signature, which another day's link to the same file has not.
So the filesystem has it and adds it to what it asks, and paths, which are kept in OUTPUT and shown,
are without it. What else a query says (`?file=a`) may choose the file: `identity` tells two such
apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qsl

import yarl
from fsspec.asyn import sync_wrapper
from fsspec.implementations.http import HTTPFileSystem

SIGNATURE = re.compile(
    r"x-[a-z]+-.*"  # X-Amz-Signature, X-Goog-Date and so on
    r"|q-(sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)"
    r"|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|policy|signature|expires|expiry"
    r"|(access_?|auth_?)?token|(access|api)_?key|auth|hmac|__token__|hdnea",
    re.IGNORECASE,
)
"""Names of parameters that sign a link, in the stores' and networks' own ways. One that is missing
here makes each new link another INPUT, which is refused; one too many makes two files the same."""
AZURE_SIGNATURE = "sig"
OF_AZURE = re.compile(r"s(v|s|rt|p|e|t|pr|r|ig|ip|dd|koid|ktid|kt|ke|ks|kv)")
"""Names of such parameters where one is called `sig`."""
HAS_RANGES = (206, 416)
"""The answers of a server that knows ranges: to one in the file, and to one beyond its end."""


class WebFiles(HTTPFileSystem):  # type: ignore[misc]
    """Files behind links.

    Args:
        query: What every link ends with after its `?`.
        options: Those of fsspec's filesystem.
    """

    def __init__(self, query: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._query = query

    def encode_url(self, url: str) -> yarl.URL:
        """The link of a path, as it is asked for."""
        asked = f"{url}?{self._query}" if self._query else url
        return yarl.URL(asked, encoded=self.encoded)

    async def _has_ranges(self, path: str) -> bool:
        session = await self.set_session()
        asked = {**self.kwargs}
        headers = {**asked.pop("headers", {}), "Range": "bytes=0-0"}
        async with session.get(self.encode_url(path), headers=headers, **asked) as answer:
            if answer.status in HAS_RANGES:
                return True
            self._raise_not_found_for_status(answer, path)
            return False

    has_ranges = sync_wrapper(_has_ranges)
    """Whether a file can be read from any byte on. Raises OSError."""

    @property
    def identity(self) -> str:
        """What of the query says which file it is, as a hash; empty where there is no query."""
        if not self._query:
            return ""
        named = parse_qsl(self._query.partition("#")[0], keep_blank_values=True)
        is_azure = any(name == AZURE_SIGNATURE for name, _ in named)
        chosen = [pair for pair in named if not _is_signature(pair[0], is_azure=is_azure)]
        return hashlib.blake2b(json.dumps(chosen).encode(), digest_size=6).hexdigest()


def _is_signature(name: str, *, is_azure: bool) -> bool:
    return bool(SIGNATURE.fullmatch(name) or (is_azure and OF_AZURE.fullmatch(name)))
