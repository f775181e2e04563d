from __future__ import annotations

import pytest

from pipeline.contract.errors import RowError, RunError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:pw@host:81/a/b.jpg?key=1&sig=2#x: 404", "https://host:81/a/b.jpg: 404"),
        ("s3://KEY:SECRET@bucket/x?endpoint_override=y", "s3://bucket/x"),
        ("see 'https://h/x?t=1', \"HTTP://u@h/y?t=2\" and <ftp://a:b@c>", None),
        ("https://user:p@ss@host/x", "https://host/x"),
        ("https://host?t=1 and https://host/?t=1", "https://host and https://host/"),
        ("abfs://c@a.dfs.core.windows.net/x?sig=s", "abfs://c@a.dfs.core.windows.net/x"),
        ("hf://datasets/us/them@main/x@2.parquet", "hf://datasets/us/them@main/x@2.parquet"),
        ("is it 1:2? a@b.org, /a/b?c, C://", "is it 1:2? a@b.org, /a/b?c, C://"),
    ],
)
def test_urls_lose_user_info_and_query(text: str, clean: str | None) -> None:
    if clean is None:
        clean = "see 'https://h/x', \"HTTP://h/y\" and <ftp://c>"
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "MY_PASSWORD",
        "A_CLIENT_SECRET",
        "my_api_key",
    ],
)
def test_values_of_secret_variables_are_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "abcd+efgh/1")
    assert redact("it was abcd+efgh/1.") == "it was ***."
    monkeypatch.setenv(name, "abcdefg")  # too short to be told from a word
    assert redact("it was abcdefg.") == "it was abcdefg."


def test_a_secret_within_a_secret_leaves_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "12345678")
    monkeypatch.setenv("B_TOKEN", "12345678-and-more")
    assert redact("12345678-and-more 12345678") == "*** ***"


def test_other_variables_are_not_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONKEY", "gibraltar")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "gibraltar")
    assert redact("gibraltar") == "gibraltar"


def test_half_of_a_surrogate_pair_is_no_text_that_can_be_written() -> None:
    assert redact("caf\ud83d at https://u:p@h/x") == "caf? at https://h/x"
    assert redact("café 😀") == "café 😀"


def test_a_long_word_is_looked_through_in_linear_time() -> None:
    """In hours, were it quadratic."""
    assert redact("f" * 10**6) == "f" * 10**6
    assert redact("f" * 10**4 + "://u:p@h/x") == "f" * 10**4 + "://h/x"


def test_every_error_text_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "open-sesame")
    leak = "s3://u:p@b/x?q=1 open-sesame"
    clean = "s3://b/x ***"
    assert str(UserError(leak)) == clean
    assert str(RunError(leak)) == clean
    assert str(RowError(Outcome.MISSING_INPUT, "fetch", leak)) == f"fetch: {clean}"
    assert one_line(OSError(leak)) == f"OSError: {clean}"
    cut = one_line(OSError("x" * 283 + " open-sesame"), limit=300)
    assert "open" not in cut  # hidden first, cut afterwards
