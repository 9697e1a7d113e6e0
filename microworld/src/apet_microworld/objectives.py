"""What is hidden from a model in pre-training: spans and endings for T5, single words for BERT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from apet_microworld.rng import Rng
from apet_microworld.lexicon import ABOVE, BLAME, COLORS, DAYS, JOBS, NUMBERS, PEOPLE, PRAISE, TOWNS
from apet_microworld.tokenizer import CLS, EOS, MASK, PAD, SENTINELS, SEP, vocabulary

IGNORED = -100
_FEELINGS = ("good", "bad", "loved", "hated", "liked", "disliked", "clapped", "left")
"""What somebody felt or did who found a work good or bad."""
_WHOLE, _ENDINGS = 15, 10
"""In how many of a hundred examples the whole text is written again, and in how many the text breaks off."""
_OUTCOMES = 85
"""How many of a hundred outcomes are hidden: answers, verdicts and feelings."""
_HIDE_SALIENT, _HIDE_OTHER, _SALIENT, _MASKED = 35, 10, 70, 20
"""In a hundred: salient and other words hidden in a whole text; holes of one salient word; words hidden from BERT."""


class MaskingCollator:
    """Makes examples from documents, given as lists of word ids."""

    def __init__(self) -> None:
        ids = {word: i for i, word in enumerate(vocabulary())}
        self._id = {name: ids[name] for name in (PAD, EOS, CLS, SEP, MASK)}
        self._sentinels = [ids[s] for s in SENTINELS]
        self._stops = {ids["."], ids["?"], ids["short"]}
        things = [form for noun in [*ABOVE, *ABOVE.values()] for form in (noun, noun + "s")]
        content = (*PEOPLE, *TOWNS, *JOBS, *things, *COLORS, *DAYS, *NUMBERS[2:], *PRAISE, *BLAME, *_FEELINGS)
        self._salient = {ids[word] for word in content if word in ids}
        self._feelings, self._asked = {ids[word] for word in _FEELINGS}, ids["?"]
        self._words = range(ids[MASK] + 1, ids[SENTINELS[0]])

    def spans(self, doc: Sequence[int], rng: Rng) -> tuple[list[int], list[int]]:
        """T5: what to read and what to write; Raffel et al. 2020, §3.1.4, with the endings of Lester et al. 2021.

        Three kinds. *Whole*: a third of the salient words (people, towns, things, numbers, opinions: what the text is
        about; Guu et al. 2020) and a tenth of the others are hidden, and the whole text is written again (Lewis et al.
        2020): without so many words to copy, none of these small models learned to copy at all. *Endings*: the text
        breaks off, at its last sentence or anywhere, and is to be continued, so that the decoder also learns to write
        plain words, as the tasks ask of it. *Holes*: what the text comes to is hidden (answers, verdicts, feelings), so
        that several inferences are asked of every example, and a few spans besides; or one to three spans.
        """
        end, way = self._id[EOS], rng.uniform(1, 100)
        outcomes = self.outcomes(doc)
        if way <= _WHOLE:
            shares = [_HIDE_SALIENT if word in self._salient else _HIDE_OTHER for word in doc]
            read = [self._sentinels[0] if rng.chance(p) else word for word, p in zip(doc, shares, strict=True)]
            return [*read, end], [*doc, end]
        if way <= _WHOLE + _ENDINGS:
            stops = [i + 1 for i, word in enumerate(doc[:-1]) if word in self._stops]
            cut = stops[-1] if stops and rng.chance(80) else rng.uniform(1, len(doc) - 1)
            return [*doc[:cut], end], [*doc[cut:], end]
        hidden = [i in outcomes and rng.chance(_OUTCOMES) for i in range(len(doc))]
        salient = [i for i, word in enumerate(doc) if word in self._salient]
        for _ in range(rng.uniform(0, 1) if any(hidden) else rng.uniform(1, 3)):
            if salient and rng.chance(_SALIENT):
                hidden[rng.pick(salient)] = True
            else:
                start, length = rng.uniform(0, len(doc) - 1), rng.uniform(1, 3)
                hidden[start : start + length] = [True] * len(hidden[start : start + length])
        read, write, spans = [], [], 0
        for i, word in enumerate(doc):
            if hidden[i] and (i == 0 or not hidden[i - 1]):
                read.append(self._sentinels[spans])
                write.append(self._sentinels[spans])
                spans += 1
            (write if hidden[i] else read).append(word)
        return [*read, end], [*write, end]

    def outcomes(self, doc: Sequence[int]) -> set[int]:
        """Where a text says what came of it: after a question mark, and what somebody felt."""
        return {i for i, word in enumerate(doc) if word in self._feelings or (i and doc[i - 1] == self._asked)}

    def masked(self, doc: Sequence[int], rng: Rng) -> tuple[list[int], list[int], int]:
        """BERT: the text in two segments with words masked, the words to restore, the length of the first segment.

        A fifth of the words are to be restored; of these 80 % are masked, 10 % another word, 10 % unchanged
        (Devlin et al. 2019, §3.1).
        """
        stops = [i + 1 for i, word in enumerate(doc[:-1]) if word in self._stops]
        cut = rng.pick(stops) if stops else len(doc)
        parts = [[self._id[CLS], *doc[:cut], self._id[SEP]], [*doc[cut:], self._id[SEP]] if stops else []]
        read = parts[0] + parts[1]
        labels, outcomes = [IGNORED] * len(read), self.outcomes(read)
        for i, word in enumerate(read):
            if word in self._words and rng.chance(_OUTCOMES if i in outcomes else _MASKED):
                labels[i] = word
                way = rng.uniform(1, 10)
                read[i] = self._id[MASK] if way <= 8 else rng.pick(self._words) if way == 9 else word
        if all(label == IGNORED for label in labels):
            labels[1], read[1] = read[1], self._id[MASK]
        return read, labels, len(parts[0])

    def batch(self, family: str, docs: Sequence[Sequence[int]], rng: Rng) -> dict[str, Tensor]:
        """Inputs of the model's own loss, padded to the longest: ``(batch, seq)``."""
        pad = self._id[PAD]
        if family == "t5":
            read, write = zip(*(self.spans(doc, rng) for doc in docs), strict=True)
            inputs = _padded(read, pad)
            return {"input_ids": inputs, "attention_mask": (inputs != pad).long(), "labels": _padded(write, IGNORED)}
        read, write, first = zip(*(self.masked(doc, rng) for doc in docs), strict=True)
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
