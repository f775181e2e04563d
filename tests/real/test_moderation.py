"""A base model judges texts by the probabilities of "Yes" and "No": as transformers has them.

How well Gemma 3 270M tells rude comments from others is reported, whatever it is; nothing is
promised.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from jobs import Engine, moderate
from jobs.moderation.calibration import auroc
from jobs.moderation.policies import ANSWER, TEXT_PROMPT, fill
from jobs.moderation.task import probability

COMMENTS = Path(__file__).with_name("comments.csv")
POLICY = "No Insults: The text shall not insult, mock or belittle a person."
POLICIES = f'- name: insults\n  text: "{POLICY}"\n'
WITHIN = 0.02
"""Of the two AUROCs; and, of a probability, what the two may differ by, is far less."""
TOLERANCE = 1e-3


def comments() -> tuple[list[str], list[bool]]:
    """Comments of our own, and whether they are rude: 50 of each."""
    with COMMENTS.open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    return [row["comment"] for row in rows], [row["rude"] == "yes" for row in rows]


@torch.no_grad()
def by_transformers(folder: Path, texts: list[str]) -> list[float]:
    """The same prompts, written out, and the softmax of the logits of " Yes" and " No"."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    yes, no = (tokenizer.encode(word, add_special_tokens=False) for word in (" Yes", " No"))
    assert (len(yes), len(no)) == (1, 1)
    found = []
    for text in texts:
        prompt = "<bos>" + fill(TEXT_PROMPT + ANSWER, text=text, policy=POLICY)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        logits = model(**ids).logits[0, -1]
        found.append(probability(float(logits[yes[0]]), float(logits[no[0]])))
    return found


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_base_model_judges_texts(real_model: Path, tmp_path: Path) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text(POLICIES)
    texts, truth = comments()
    assert truth.count(True) == truth.count(False) == 50
    table = [{"comment": text} for text in texts]
    settings = {"dtype": "float32", "max_model_len": 512, "prompt_format": "raw"}
    with Engine(model=str(real_model), **settings) as engine:
        rows = moderate(table, engine=engine, text_column="comment", policies=str(policies))
    assert {row["outcome"] for row in rows} == {"ok"}
    ours = [row["p_insults"] for row in rows]
    theirs = by_transformers(real_model, texts)
    assert ours == pytest.approx(theirs, abs=TOLERANCE)
    of_ours, of_theirs = auroc(ours, truth), auroc(theirs, truth)
    assert of_ours is not None
    assert of_theirs is not None
    print(f"AUROC {of_ours:.3f}, by transformers {of_theirs:.3f}")
    assert abs(of_ours - of_theirs) <= WITHIN
    # What this would not notice: probabilities that are all the same, or of other comments.
    assert len({*ours}) > 50
    assert ours[1:] + ours[:1] != pytest.approx(theirs, abs=TOLERANCE)
