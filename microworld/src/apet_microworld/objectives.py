"""Pre-training objectives: span corruption and continuation for T5, masked words for BERT, next words for Llama."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from apet_microworld.lexicon import (
    ABOVE,
    BLAME,
    CARES,
    COLORS,
    DAYS,
    JOBS,
    NUMBERS,
    PEOPLE,
    PLACES,
    PRAISE,
    QUALITIES,
    SENSES,
    TOWNS,
)
from apet_microworld.rng import Rng
from apet_microworld.tokenizer import CLS, EOS, MASK, PAD, SENTINELS, SEP, vocabulary

IGNORED = -100
Kind = Literal["whole", "ending", "holes"]
KINDS: tuple[Kind, ...] = ("whole",) * 15 + ("ending",) * 10 + ("holes",) * 75
"""What is asked of T5, one kind a batch: in a mixed one most of what the decoder reads would be padding."""
_HIDE_SALIENT, _HIDE_OTHER, _SALIENT, _MASKED = 35, 10, 85, 20
"""In a hundred: salient and other words hidden in a whole text; holes of one salient word; words hidden from BERT."""


class MaskingCollator:
    """Collator that makes pre-training batches from documents, given as lists of word ids."""

    def __init__(self) -> None:
        ids = {word: i for i, word in enumerate(vocabulary())}
        self._id = {name: ids[name] for name in (PAD, EOS, CLS, SEP, MASK)}
        self._sentinels = [ids[s] for s in SENTINELS]
        self._stops = {ids["."], ids["?"], ids["short"]}
        content = (*PEOPLE, *TOWNS, *JOBS, *ABOVE, *ABOVE.values(), *COLORS, *DAYS, *NUMBERS[2:], *PRAISE, *BLAME)
        used = (*CARES, *QUALITIES, *PLACES, *(v.finite for verbs in SENSES.values() for v in verbs))
        self._salient = {ids[word] for word in (*content, *used) if word in ids}
        self._words = range(ids[MASK] + 1, ids[SENTINELS[0]])

    def corrupt_spans(self, doc: Sequence[int], kind: Kind, rng: Rng) -> tuple[list[int], list[int]]:
        """T5's example of a document: span corruption (Raffel et al. 2020, §3.1.4), and endings (Lester et al. 2021).

        Three kinds. *Whole*: a third of the salient words (people, towns, things, numbers, opinions: what the text is
        about; Guu et al. 2020) and a tenth of the others are hidden, and the whole text is written again (Lewis et al.
        2020): without so many words to copy, none of these small models learned to copy at all. *Endings*: the text
        breaks off, at its last sentence or anywhere, and is to be continued, so that the decoder also learns to write
        plain words, as the tasks ask of it. *Holes*: two to five spans, most of them of one salient word.

        Args:
            doc: word ids.
            kind: which of the three.
            rng: source of the choices.

        Returns:
            Ids that the encoder reads, and ids that the decoder writes; both end with the end token.
        """
        end = self._id[EOS]
        if kind == "whole":
            shares = [_HIDE_SALIENT if word in self._salient else _HIDE_OTHER for word in doc]
            read = [self._sentinels[0] if rng.chance(p) else word for word, p in zip(doc, shares, strict=True)]
            return [*read, end], [*doc, end]
        if kind == "ending":
            stops = [i + 1 for i, word in enumerate(doc[:-1]) if word in self._stops]
            cut = stops[-1] if stops and rng.chance(80) else rng.uniform(1, len(doc) - 1)
            return [*doc[:cut], end], [*doc[cut:], end]
        hidden = [False] * len(doc)
        salient = [i for i, word in enumerate(doc) if word in self._salient]
        for _ in range(rng.uniform(2, 5)):
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

    def mask_words(self, doc: Sequence[int], rng: Rng) -> tuple[list[int], list[int], int]:
        """BERT's example of a document: two segments with words masked, as in Devlin et al. 2019, §3.1.

        A fifth of the words are to be restored; of these 80 % are masked, 10 % another word, 10 % unchanged.

        Args:
            doc: word ids.
            rng: source of the choices.

        Returns:
            Ids that the model reads, labels with -100 where nothing is to be restored, length of the first segment.
        """
        stops = [i + 1 for i, word in enumerate(doc[:-1]) if word in self._stops]
        cut = rng.pick(stops) if stops else len(doc)
        parts = [[self._id[CLS], *doc[:cut], self._id[SEP]], [*doc[cut:], self._id[SEP]] if stops else []]
        read = parts[0] + parts[1]
        labels = [IGNORED] * len(read)
        for i, word in enumerate(read):
            if word in self._words and rng.chance(_MASKED):
                labels[i] = word
                draw = rng.uniform(1, 10)
                read[i] = self._id[MASK] if draw <= 8 else rng.pick(self._words) if draw == 9 else word
        if all(label == IGNORED for label in labels):
            labels[1], read[1] = read[1], self._id[MASK]
        return read, labels, len(parts[0])

    def collate(self, family: str, docs: Sequence[Sequence[int]], rng: Rng) -> dict[str, Tensor]:
        """Batch for the model's own loss, padded to its longest example.

        Args:
            family: ``t5``, ``bert`` or ``llama``.
            docs: word ids of each document.
            rng: source of the choices.

        Returns:
            Arguments of ``model.forward``, each ``(batch, seq)``.
        """
        pad = self._id[PAD]
        if family == "t5":
            kind = rng.pick(KINDS)
            read, write = zip(*(self.corrupt_spans(doc, kind, rng) for doc in docs), strict=True)
            inputs = _padded(read, pad)
            return {"input_ids": inputs, "attention_mask": (inputs != pad).long(), "labels": _padded(write, IGNORED)}
        if family == "llama":
            inputs = _padded([[*doc, self._id[EOS]] for doc in docs], pad)
            labels = inputs.masked_fill(inputs == pad, IGNORED)
            return {"input_ids": inputs, "attention_mask": (inputs != pad).long(), "labels": labels}
        read, write, first = zip(*(self.mask_words(doc, rng) for doc in docs), strict=True)
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
