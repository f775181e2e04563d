"""What a server's reply means for the request, and what the server says that is wrong.

Decides which replies are an answer, which may be better a little later, which are the row's own
fault and which end the run; see the table of the package.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact

if TYPE_CHECKING:
    from pipeline.engine.endpoint.client import Reply

ABORTED = "abort"
LONGEST_MESSAGE = 300
TOO_LARGE = 413
TOO_LONG = re.compile(
    r"context.?length|context.?window|context.?size|maximum.{0,20}(length|tokens)|too.?long|"
    r"too many tokens|prompt is longer",
    re.IGNORECASE,
)
"""In what servers say of a prompt that is too long: vLLM, OpenAI, SGLang, llama.cpp, TGI."""
FILTERED = re.compile(r"content.?(filter|policy)|moderation|safety", re.IGNORECASE)


class Verdict(Enum):
    """What a reply means."""

    ANSWER = "an answer"
    BUSY = "the server has too much to do: later, and fewer at once"
    AWAY = "there is no server behind the address now"
    BROKEN = "it failed; that may be the server's fault, or this request's"
    ROW = "the request is refused, others may not be"
    RUN = "every request would be refused"


BY_STATUS = {
    **dict.fromkeys((425, 429, 503, 529), Verdict.BUSY),
    **dict.fromkeys((401, 402), Verdict.RUN),
    408: Verdict.BROKEN,
    501: Verdict.ROW,
}
BY_HUNDRED = {2: Verdict.BROKEN, 3: Verdict.RUN, 4: Verdict.ROW, 5: Verdict.BROKEN}
"""Of the other statuses, by their first digit."""


def verdict_of(reply: Reply, *, has_answered: bool) -> Verdict:
    """What a reply means.

    Args:
        reply: The reply.
        has_answered: Whether the server has answered a request of this run already.
    """
    status = _status(reply)
    if status == 200:  # noqa: PLR2004
        return Verdict.ANSWER if _is_whole(reply.body) else Verdict.BROKEN
    if status == 403:  # noqa: PLR2004  the key's fault, or what a filter thinks of this request
        return Verdict.ROW if has_answered else Verdict.RUN
    if status == 404:  # noqa: PLR2004  of the API, or of a gateway that has no server for now
        return Verdict.RUN if _is_of_the_api(reply) else Verdict.AWAY
    if status in BY_STATUS:
        return BY_STATUS[status]
    return BY_HUNDRED.get(status // 100, Verdict.BROKEN)


def _is_whole(body: Any) -> bool:
    """Whether it is an answer that the server did not abort, as vLLM does when it is stopped."""
    if not isinstance(body, Mapping):
        return False
    choices = body.get("choices")
    listed = choices if isinstance(choices, list) else []
    return not any(isinstance(c, Mapping) and c.get("finish_reason") == ABORTED for c in listed)


def _status(reply: Reply) -> int:
    """The status; some gateways answer 200 and give that of the server behind them in the body."""
    if reply.status == 200 and isinstance(reply.body, Mapping) and reply.body.get("error"):  # noqa: PLR2004
        code = _error(reply.body).get("code")
        return code if isinstance(code, int) else 500
    return reply.status


def _is_of_the_api(reply: Reply) -> bool:
    return isinstance(reply.body, Mapping) and bool({"error", "message"} & reply.body.keys())


def row_error(reply: Reply, say: str) -> RowError:
    """The failure of a row whose request is refused.

    Args:
        reply: The reply.
        say: What the server says, see `message_of`.
    """
    code = str(_error(reply.body).get("code") or "")
    text = f"the server refuses it ({reply.status}): {say}"
    if reply.status == TOO_LARGE or TOO_LONG.search(f"{code} {say}"):
        return RowError(Outcome.TOO_LONG, "generate", text)
    if reply.status == 403 or FILTERED.search(code):  # noqa: PLR2004
        return RowError(Outcome.REFUSED, "generate", text)
    return RowError(Outcome.ENGINE_ERROR, "generate", text)


def message_of(reply: Reply) -> str:
    """What the server says is wrong, in one line, redacted; the status where it says nothing."""
    error = _error(reply.body)
    found = next((error[name] for name in ("message", "detail") if error.get(name)), None)
    text = redact(" ".join(str(found).split())) if found else f"status {reply.status}"
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def _error(body: Any) -> Mapping[str, Any]:
    """The part of a body that is about an error; servers differ in its form."""
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, Mapping) else {"message": error}


def retry_after(reply: Reply) -> float | None:
    """How many seconds the server asks to wait; None where it does not say. It may be a date."""
    value = reply.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
