"""The verbalizer of backbones that generate text: label words as tokens, and generated text back to label words."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import GenerationConfig

from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer


class Verbalizer:
    """A task's label words in tokens; empty for a task of free text.

    Attributes:
        single_token: every label is one token, so the first token generated decides.
        ids: tokens of each label word, without an end token.
        max_new_tokens: tokens that an answer may have: those of the longest label with its end token, or the task's
            ``max_target_length``.

    Args:
        task: whose label words.
        tokenizer: of the backbone.
        lead: spaces between the text and the answer.

    Raises:
        ApetError: a label word that the tokenizer does not know, or two that are the same to it.
    """

    def __init__(self, task: Task, tokenizer: TextTokenizer, lead: str) -> None:
        self.task = task
        self._tokenizer = tokenizer
        self.ids = ids = [tokenizer.encode_word(lead + word) for word in task.label_words]
        check_distinct(task.label_words, ids)
        self.single_token = bool(ids) and all(len(i) == 1 for i in ids)
        # One more than the longest label: only its end token tells it from a longer answer that begins like it.
        self.max_new_tokens = max(map(len, ids)) + 1 if ids else task.max_target_length
        self._word_of_token = {i[0]: w for i, w in zip(ids, task.label_words, strict=True)} if self.single_token else {}
        self._word_of_text = {tokenizer.decode(i): w for i, w in zip(ids, task.label_words, strict=True)}

    def candidates(self, end: list[int]) -> list[list[int]]:
        """Each label word as training teaches it: with the end token, unless one known token is all of it."""
        return [ids if self.single_token else [*ids, *end] for ids in self.ids]

    def limit_target(self, answer: list[int], end: list[int]) -> tuple[list[int], int]:
        """An answer's tokens with the end token, within the limit.

        Returns:
            The tokens, and how many did not fit. An answer that was cut gets no end token: it does not end there.
        """
        num_cut = len(answer) - self.max_new_tokens
        return ([*answer, *end], 0) if num_cut <= 0 else (answer[: self.max_new_tokens], num_cut)

    def from_first_tokens(self, first: Sequence[int]) -> list[Answer]:
        """Label words by their first token; any other token as the text that it is."""
        words = self._word_of_token
        return [Answer(words[i]) if i in words else Answer(self._tokenizer.decode([i]), is_valid=False) for i in first]

    def from_texts(self, texts: Sequence[str]) -> list[Answer]:
        """Answers from generated text: itself, or for classification the label word where it is one."""
        if not self.task.is_classification:
            return [Answer(t) for t in texts]
        words = self._word_of_text
        return [Answer(words[t]) if t in words else Answer(t, is_valid=False) for t in texts]


def check_distinct(words: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Refuse label words that are the same to the tokenizer.

    Raises:
        ApetError: two have the same tokens.
    """
    word_of: dict[tuple[int, ...], str] = {}
    for word, word_ids in zip(words, ids, strict=True):
        other = word_of.setdefault(tuple(word_ids), word)
        if other != word:
            raise ApetError(f"label words {other!r} and {word!r} are the same to this backbone's tokenizer; rename one")


def greedy_generation(
    tokenizer: TextTokenizer, max_new_tokens: int, decoder_start_token_id: int | None = None
) -> GenerationConfig:
    """Settings of greedy generation: the likeliest token each time, nothing of the checkpoint's own taste."""
    settings = {} if decoder_start_token_id is None else {"decoder_start_token_id": decoder_start_token_id}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.pretrained.eos_token_id,
        **settings,
    )
