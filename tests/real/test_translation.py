"""A base model translates: as well through our job as by transformers, on sentences of our own.

The floors are what was measured (2026-11, greedy, float32), less four points.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sacrebleu.metrics import CHRF

from jobs import Engine, translate
from jobs.options.languages import find_language
from jobs.translation.prompts import text_completion

SENTENCES = Path(__file__).with_name("sentences.csv")
EXAMPLES = [
    ("Good morning, how are you?", "Guten Morgen, wie geht es dir?",
     "Bonjour, comment vas-tu ?", "Buenos días, ¿cómo estás?"),
    ("The cat sleeps on the chair.", "Die Katze schläft auf dem Stuhl.",
     "Le chat dort sur la chaise.", "El gato duerme en la silla."),
    ("We have no time for that today.", "Dafür haben wir heute keine Zeit.",
     "Nous n'avons pas le temps pour cela aujourd'hui.", "Hoy no tenemos tiempo para eso."),
]  # fmt: skip
LANGUAGES = ("en", "de", "fr", "es")
TOKENS = 40
BATCH = 20
FLOORS = {
    ("en", "de"): 53.0,
    ("en", "fr"): 57.0,
    ("en", "es"): 57.5,
    ("de", "en"): 78.0,
    ("fr", "es"): 61.5,
}
"""chrF of 40 sentences, by languages."""
SHARE = 0.9
"""Of transformers' chrF on the same prompts."""
PAIRS = [pytest.param(pair, id="-".join(pair), marks=pytest.mark.long) for pair in FLOORS]
"""In `make test` the recipe of `docs/quick-start.md` has such a translator's answers."""


def sentences(language: str) -> list[str]:
    with SENTENCES.open(encoding="utf-8") as file:
        return [row[language] for row in csv.DictReader(file)]


def shown(pair: tuple[str, str]) -> list[tuple[str, str]]:
    source, target = map(LANGUAGES.index, pair)
    return [(row[source], row[target]) for row in EXAMPLES]


@pytest.fixture(scope="module")
def engine(real_model: Path, ray_cluster: None) -> Iterator[Engine]:  # noqa: ARG001
    settings = {"dtype": "float32", "max_model_len": 512, "prompt_format": "raw"}
    with Engine(model=str(real_model), **settings) as engine:
        yield engine


def translated(
    engine: Engine, folder: Path, pair: tuple[str, str], examples: Sequence[tuple[str, str]]
) -> list[str]:
    """Through our job, with a file of examples (if there are any), as a user does it."""
    named = folder / "examples.csv"
    with named.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([pair, *examples])
    source, target = pair
    rows = translate(
        sentences(source), engine=engine, source=source, to=target, max_tokens=TOKENS,
        examples=str(named) if examples else None, check_language=False,
    )  # fmt: skip
    return [row[f"text_{target}"] or "" for row in rows]


def by_transformers(folder: Path, pair: tuple[str, str]) -> list[str]:
    """Greedy, the same prompts, up to the end of the line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    languages = tuple(map(find_language, pair))
    prompts = [
        "<bos>" + text_completion(text, *languages, shown(pair)) for text in sentences(pair[0])
    ]
    answers = []
    for begin in range(0, len(prompts), BATCH):
        batch = tokenizer(
            prompts[begin : begin + BATCH],
            padding=True, add_special_tokens=False, return_tensors="pt",
        )  # fmt: skip
        made = model.generate(
            **batch, max_new_tokens=TOKENS, do_sample=False, stop_strings=["\n"],
            tokenizer=tokenizer,
        )  # fmt: skip
        new = made[:, batch["input_ids"].shape[1] :]
        answers += [
            text.partition("\n")[0].strip()
            for text in tokenizer.batch_decode(new, skip_special_tokens=True)
        ]
    return answers


@pytest.mark.timeout(900)
@pytest.mark.parametrize("pair", PAIRS)
def test_examples_make_a_translator_of_a_base_model(
    engine: Engine, real_model: Path, tmp_path: Path, pair: tuple[str, str]
) -> None:
    due = [sentences(pair[1])]
    made = translated(engine, tmp_path, pair, shown(pair))
    assert made.count("") <= 1, "rows that failed"
    ours = CHRF().corpus_score(made, due).score
    theirs = CHRF().corpus_score(by_transformers(real_model, pair), due).score
    print(f"{pair}: chrF {ours:.1f}, by transformers {theirs:.1f}")
    assert ours >= SHARE * theirs
    assert ours >= FLOORS[pair]


@pytest.mark.long
def test_examples_that_are_dropped_are_seen(engine: Engine, tmp_path: Path) -> None:
    pair = ("en", "de")
    found = CHRF().corpus_score(translated(engine, tmp_path, pair, ()), [sentences("de")]).score
    print(f"{pair} without examples: chrF {found:.1f}")
    assert found < FLOORS[pair]
