"""Label words that a backbone writes freely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig

from apet.errors import ApetError
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class Verbalizer:
    """A task's label words in tokens; empty for free text.

    Attributes:
        one_step: every label is one token, so the first token written decides.
        most: tokens that an answer may have: those of the longest label with its end token, or the task's limit.
    """

    def __init__(self, task: Task, reader: TextTokenizer, lead: str) -> None:
        self.task = task
        ids = [reader.word(lead + w) for w in task.label_words]
        refuse_equal(task.label_words, ids)
        self.single_token = bool(ids) and all(len(i) == 1 for i in ids)
        self.max_new_tokens = max(map(len, ids)) + 1 if ids else task.max_target_length
        self._word_of = {i[0]: w for i, w in zip(ids, task.label_words, strict=True)} if self.single_token else {}
        self._known = {reader.text(i): w for i, w in zip(ids, task.label_words, strict=True)}

    def target(self, answer: list[int], end: list[int]) -> tuple[list[int], int]:
        """An answer with its end token, and tokens that did not fit; one that was cut does not end there."""
        lost = len(answer) - self.max_new_tokens
        return ([*answer, *end], 0) if lost <= 0 else (answer[: self.max_new_tokens], lost)

    def of_tokens(self, first: Sequence[int]) -> list[str | None]:
        """Label words by their first token; None for any other token."""
        return [self._word_of.get(i) for i in first]

    def of_texts(self, texts: Sequence[str]) -> list[str | None]:
        """Free text as it is; in a classification task only label words count, anything else is None."""
        if not self.task.is_classification:
            return list(texts)
        return [self._known.get(t) for t in texts]


def refuse_equal(words: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Label words must differ for the tokenizer, too.

    Raises:
        ApetError: two read alike.
    """
    seen: dict[tuple[int, ...], str] = {}
    for word, own in zip(words, ids, strict=True):
        other = seen.setdefault(tuple(own), word)
        if other != word:
            raise ApetError(f"label words {other!r} and {word!r} are the same to this backbone's tokenizer; rename one")


def greedy_generation(reader: TextTokenizer, most: int, **more: Any) -> GenerationConfig:
    """The likeliest token each time, at most so many."""
    end = reader.tokenizer.eos_token_id
    return GenerationConfig(
        max_new_tokens=most, do_sample=False, num_beams=1, pad_token_id=reader.pad, eos_token_id=end, **more
    )
