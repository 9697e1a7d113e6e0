"""What is hidden from a model in pre-training: spans and endings for T5, single words for BERT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from apet.microworld.dice import Dice
from apet.microworld.tokenizer import CLS, EOS, MASK, PAD, SENTINELS, SEP, vocabulary

IGNORED = -100
_SPAN_SHARE, _SPAN_MEAN, _ENDINGS = 0.24, 2, 35
_MASKED = 20


class Hider:
    """Makes examples from documents, given as lists of word ids."""

    def __init__(self) -> None:
        ids = {word: i for i, word in enumerate(vocabulary())}
        self._id = {name: ids[name] for name in (PAD, EOS, CLS, SEP, MASK)}
        self._sentinels = [ids[s] for s in SENTINELS]
        self._stops = {ids["."], ids["?"], ids["|||||"]}
        self._words = range(ids[MASK] + 1, ids[SENTINELS[0]])

    def spans(self, doc: Sequence[int], dice: Dice) -> tuple[list[int], list[int]]:
        """T5: what to read and what to write; Raffel et al. 2020, §3.1.4, with the endings of Lester et al. 2021.

        In 65 of 100 cases about a quarter of the words, in spans of one to three, are to be restored. In the others
        the text breaks off, at its last sentence or anywhere in its second half, and is to be continued: so the
        decoder also learns to write plain words, as the tasks will ask of it.
        """
        end = self._id[EOS]
        if dice.chance(_ENDINGS):
            stops = [i + 1 for i, word in enumerate(doc[:-1]) if word in self._stops]
            cut = stops[-1] if stops and dice.chance(60) else dice.between(len(doc) // 2, len(doc) - 1)
            return [*doc[:cut], end], [*doc[cut:], end]
        hidden = [False] * len(doc)
        for _ in range(max(1, round(len(doc) * _SPAN_SHARE / _SPAN_MEAN))):
            start = dice.between(0, len(doc) - 1)
            for i in range(start, min(len(doc), start + dice.between(1, 2 * _SPAN_MEAN - 1))):
                hidden[i] = True
        read: list[int] = []
        write: list[int] = []
        spans = 0
        for i, word in enumerate(doc):
            if hidden[i] and (i == 0 or not hidden[i - 1]):
                read.append(self._sentinels[spans])
                write.append(self._sentinels[spans])
                spans += 1
            (write if hidden[i] else read).append(word)
        return [*read, end], [*write, end]

    def masked(self, doc: Sequence[int], dice: Dice) -> tuple[list[int], list[int], int]:
        """BERT: the text in two segments with words masked, the words to restore, the length of the first segment.

        A fifth of the words are to be restored; of these 80 % are masked, 10 % another word, 10 % unchanged
        (Devlin et al. 2019, §3.1).
        """
        stops = [i + 1 for i, word in enumerate(doc[:-1]) if word in self._stops]
        cut = dice.pick(stops) if stops else len(doc)
        parts = [[self._id[CLS], *doc[:cut], self._id[SEP]], [*doc[cut:], self._id[SEP]] if stops else []]
        read = parts[0] + parts[1]
        labels = [IGNORED] * len(read)
        for i, word in enumerate(read):
            if word in self._words and dice.chance(_MASKED):
                labels[i] = word
                way = dice.between(1, 10)
                read[i] = self._id[MASK] if way <= 8 else dice.pick(self._words) if way == 9 else word
        if all(label == IGNORED for label in labels):
            labels[1], read[1] = read[1], self._id[MASK]
        return read, labels, len(parts[0])

    def batch(self, family: str, docs: Sequence[Sequence[int]], dice: Dice) -> dict[str, Tensor]:
        """Inputs of the model's own loss, padded to the longest: ``(batch, seq)``."""
        pad = self._id[PAD]
        if family == "t5":
            read, write = zip(*(self.spans(doc, dice) for doc in docs), strict=True)
            inputs = _padded(read, pad)
            return {"input_ids": inputs, "attention_mask": (inputs != pad).long(), "labels": _padded(write, IGNORED)}
        read, write, first = zip(*(self.masked(doc, dice) for doc in docs), strict=True)
        inputs = _padded(read, pad)
        second = (torch.arange(inputs.shape[1])[None] >= torch.tensor(first)[:, None]) & (inputs != pad)
        return {
            "input_ids": inputs,
            "attention_mask": (inputs != pad).long(),
            "token_type_ids": second.long(),
            "labels": _padded(write, IGNORED),
        }


def _padded(rows: Sequence[Sequence[int]], filling: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (width - len(row))] for row in rows])
