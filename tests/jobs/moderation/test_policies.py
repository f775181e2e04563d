"""The built-in policies, thresholds, and policy files."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers.models.shieldgemma2.processing_shieldgemma2 import (
    DEFAULT_SHIELDGEMMA2_POLICIES,
)

from jobs.moderation.policies import (
    IMAGE_POLICIES,
    IMAGE_PROMPT,
    TEXT_POLICIES,
    Policy,
    fill,
    set_thresholds,
)
from jobs.moderation.policy_files import read_policies
from pipeline import UserError

YAML = """\
- name: weapons
  text: "No Weapons: The image shall not contain a weapon."
  threshold: 0.7
- {name: spam, text: No spam}
"""
MAPPING = "# ours\nweapons: No weapons\nspam: |\n  No spam,\n  of any kind\n"


def test_shieldgemma2s_policies_are_in_its_own_words() -> None:
    assert {policy.name: policy.text for policy in IMAGE_POLICIES} == dict(
        DEFAULT_SHIELDGEMMA2_POLICIES
    )
    assert all("The text shall not contain" in policy.text for policy in TEXT_POLICIES)
    assert not any("image" in policy.text for policy in TEXT_POLICIES)


def test_a_prompt_is_filled_in_one_pass() -> None:
    assert fill("{text} {policy} {other}", text="a {policy}", policy="{text}") == (
        "a {policy} {text} {other}"
    )
    assert IMAGE_POLICIES[0].text in fill(IMAGE_PROMPT, policy=IMAGE_POLICIES[0].text)


def test_thresholds_are_set_by_name() -> None:
    changed = set_thresholds(IMAGE_POLICIES, {"sexual": 0.4})
    assert [policy.threshold for policy in changed] == [0.5, 0.4, 0.5]
    with pytest.raises(UserError, match=r"did you mean 'violence'\? choose from dangerous, sexual"):
        set_thresholds(IMAGE_POLICIES, {"violense": 0.4})
    with pytest.raises(UserError, match=r"'sexual': its threshold should .* \(got 1.4\)"):
        set_thresholds(IMAGE_POLICIES, {"sexual": 1.4})


@pytest.mark.parametrize(
    ("name", "body", "due"),
    [
        ("p.yaml", YAML, [("weapons", 0.7), ("spam", 0.5)]),
        ("p.yml", MAPPING, [("weapons", 0.5), ("spam", 0.5)]),
        ("p.json", '[{"name": "a_1", "text": "No \\ud83d\\ude00", "threshold": 1}]', [("a_1", 1)]),
        ("p.json", '{"a": "No a",\n\t"b": "No b"}', [("a", 0.5), ("b", 0.5)]),
        ("p.yaml", "name: weapons\ntext: No weapons\n", [("weapons", 0.5)]),
    ],
)
def test_policies_are_read(
    tmp_path: Path, name: str, body: str, due: list[tuple[str, float]]
) -> None:
    (tmp_path / name).write_text(body)
    found = read_policies(tmp_path / name)
    assert [(policy.name, policy.threshold) for policy in found] == due


def test_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(MAPPING)
    assert read_policies(tmp_path / "p.yaml")[1].text == "No spam,\nof any kind\n"


@pytest.mark.parametrize(
    ("name", "body", "due"),
    [
        ("p.yaml", "- name: a\n  text: b\n- name: Ab\n  text: b", ":3: policy name 'Ab': should"),
        ("p.yaml", "- name: a\n  txt: b", ":1: 'txt': there is no such key; did you mean 'text'?"),
        ("p.yaml", "a: No a\nb:\n", ":2: policy 'b': its text should be words"),
        ("p.yaml", "a: true", ":1: policy 'a': its text should be words"),
        ("p.yaml", "a: No a\n\na: No a", ":3: there are two policies 'a'; rename one"),
        ("p.yaml", "- name: a\n  text: b\n  text: c", ":1: 'text' is there twice"),
        ("p.yaml", "- {name: a, text: b, threshold: high}", "threshold should be a number from 0"),
        ("p.yaml", "- {name: a, text: b, threshold: .nan}", "threshold should be a number from 0"),
        ("p.yaml", "- name: a", ":1: a policy has no text; give it one"),
        ("p.yaml", "a: [b\n", ":2 is not YAML: "),
        ("p.yaml", "a: !!python/name:os.system x\n", ":1 is not YAML: could not determine"),
        ("p.yaml", "", "should be a list of policies"),
        ("p.yaml", "[]", "has no policy; give at least one"),
        ("p.yaml", "- a\n- b", "should be a list of policies"),
        ("p.json", '{"a": "b"', "is not JSON: Expecting"),
        ("p.json", '[{"name": "a", "text": ""}]', "policy 'a': its text should be words"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, name: str, body: str, due: str) -> None:
    (tmp_path / name).write_text(body)
    with pytest.raises(UserError) as told:
        read_policies(tmp_path / name)
    message = str(told.value)
    assert message.startswith(f"policies {tmp_path / name}")
    assert due in message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_policies(tmp_path / "absent.yaml")
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_policies(tmp_path / "p.yaml")


def test_a_policys_name_must_fit_a_column() -> None:
    for name in ("", "a b", "Ä", "p-1", "a\n"):
        with pytest.raises(UserError, match="policy name"):
            Policy(name=name, text="No x")
