"""What becomes of the answers for one text in one target language.

The chunks' translations are put together (`documents`) and checked (`checks`, `detection`), which
gives the translation, what it lost, and its outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.answers.check import excerpt, fault_of
from jobs.answers.clean import cleaned
from jobs.translation.checks import lost
from jobs.translation.detection import detect, is_echo, is_wrong_language
from pipeline import Generation, Outcome, RowError

if TYPE_CHECKING:
    from jobs.translation.documents import Document


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A translation that was asked for: one text, or image, in one target language.

    Attributes:
        column: The text's column, or the image's.
        target: Code of the language to translate to.
        source: Code of the text's language; None where it has no words, or the row has a fault.
        text: The text; None for an image, or where the row has a fault.
        document: The text in chunks; None where nothing is asked for it, or for an image.
        terms: The glossary's terms in the text, with their translations.
        requests: How many requests ask for it.
        fault: Why nothing can be asked for it.
    """

    column: str
    target: str
    source: str | None = None
    text: str | None = None
    document: Document | None = None
    terms: tuple[tuple[str, str], ...] = ()
    requests: int = 0
    fault: RowError | None = None

    def finish(
        self, generations: Sequence[Generation], *, check_language: bool, clean: bool = False
    ) -> Answer:
        """Put the answers together and check them.

        Args:
            generations: The answers to its requests, in order.
            check_language: Whether to check the language of the translation.
            clean: Whether to cut what is around an answer.
        """
        failures = [self.fault, *(generation.failure for generation in generations)]
        failure = next((error for error in failures if error is not None), None)
        if failure is not None:
            return Answer(outcome=failure.outcome, error=str(failure))
        texts = [generation.text.strip() for generation in generations]
        raw = self._whole(texts)
        translation = self._whole(self._cleaned(texts)) if clean else raw
        missing = None
        if self.text is not None:
            missing = lost(self.text, translation, glossary_terms=self.terms)
        fault = self._check(translation, generations, check_language) if generations else None
        if fault is not None:
            return fault
        is_truncated = any(generation.finish_reason == "length" for generation in generations)
        outcome = Outcome.TRUNCATED if is_truncated else Outcome.OK
        return Answer(
            text=translation,
            lost=missing,
            raw=None if raw == translation else raw,
            quality=_quality(generations),
            outcome=outcome,
        )

    def _whole(self, texts: Sequence[str]) -> str:
        """The translation that its chunks' make up."""
        if self.text is None:
            return texts[0]
        return self.text if self.document is None else self.document.join(texts)

    def _cleaned(self, texts: Sequence[str]) -> list[str]:
        if self.document is None:
            return [cleaned(text) for text in texts]
        chunks = self.document.chunks
        return [cleaned(text, chunk.text) for text, chunk in zip(texts, chunks, strict=True)]

    def _check(
        self, translation: str, generations: Sequence[Generation], check_language: bool
    ) -> Answer | None:
        """What is wrong with the translation as a whole; None where nothing is."""
        error = self._fault_of(translation, generations)
        if error is not None:
            return Answer(outcome=error.outcome, error=str(error))
        return self._check_language(translation) if check_language else None

    def _fault_of(self, translation: str, generations: Sequence[Generation]) -> RowError | None:
        is_loop = any(generation.finish_reason == "repetition" for generation in generations)
        if self.text is None:
            return fault_of(translation, ended_as_loop=is_loop, quotes=True)
        empty = next((g for g in generations if not g.text.strip()), None)
        if empty is not None:  # every piece that is asked for has words
            return fault_of(empty.text)
        return fault_of(translation, self.text, ended_as_loop=is_loop)

    def _check_language(self, translation: str) -> Answer | None:
        if is_wrong_language(translation, self.target, self.source):
            message = f"the answer is in {detect(translation).language}, not {self.target}"
        elif self._is_echo(translation):
            message = "the answer is the text itself"
        else:
            return None
        error = f"parse: {message}: {excerpt(translation)}"
        return Answer(outcome=Outcome.WRONG_LANGUAGE, error=error)

    def _is_echo(self, translation: str) -> bool:
        if self.text is None or self.source is None:
            return False
        return is_echo(translation, self.text, self.source, self.target)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A translation that was finished.

    Attributes:
        text: The translation; None where there is none.
        lost: What it lost of its source; None for an image, or where there is no translation.
        raw: The translation with what was around the answers, where something was cut.
        quality: Mean log-probability of a token of it; None where nothing was asked or measured.
        outcome: What became of it.
        error: What went wrong.
    """

    text: str | None = None
    lost: Sequence[str] | None = None
    raw: str | None = None
    quality: float | None = None
    outcome: Outcome = Outcome.OK
    error: str | None = None


def _quality(generations: Sequence[Generation]) -> float | None:
    """The mean log-probability of a token of all answers together; nats."""
    measured = [
        (answer.mean_log_probability, answer.output_tokens)
        for answer in generations
        if answer.mean_log_probability is not None
    ]
    tokens = sum(count for _, count in measured)
    return sum(mean * count for mean, count in measured) / tokens if tokens else None
