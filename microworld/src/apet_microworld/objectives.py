"""Pre-training objectives: span corruption and continuation for T5, masked words for BERT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from apet_microworld.lexicon import ABOVE, BLAME, COLORS, DAYS, JOBS, NUMBERS, PEOPLE, PRAISE, TOWNS
from apet_microworld.rng import Rng
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
    """Collator that makes pre-training batches from documents, given as lists of word ids."""

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

    def corrupt_spans(self, doc: Sequence[int], rng: Rng) -> tuple[list[int], list[int]]:
        """T5's example of a document: span corruption (Raffel et al. 2020, §3.1.4), and endings (Lester et al. 2021).

        Three kinds. *Whole*: a third of the salient words (people, towns, things, numbers, opinions: what the text is
        about; Guu et al. 2020) and a tenth of the others are hidden, and the whole text is written again (Lewis et al.
        2020): without so many words to copy, none of these small models learned to copy at all. *Endings*: the text
        breaks off, at its last sentence or anywhere, and is to be continued, so that the decoder also learns to write
        plain words, as the tasks ask of it. *Holes*: what the text comes to is hidden (answers, verdicts, feelings), so
        that several inferences are asked of every example, and a few spans besides; or one to three spans.

        Args:
            doc: word ids.
            rng: source of the choices.

        Returns:
            Ids that the encoder reads, and ids that the decoder writes; both end with the end token.
        """
        end, draw = self._id[EOS], rng.uniform(1, 100)
        outcomes = self.outcomes(doc)
        if draw <= _WHOLE:
            shares = [_HIDE_SALIENT if word in self._salient else _HIDE_OTHER for word in doc]
            read = [self._sentinels[0] if rng.chance(p) else word for word, p in zip(doc, shares, strict=True)]
            return [*read, end], [*doc, end]
        if draw <= _WHOLE + _ENDINGS:
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
        """Indices where a document says what came of it: after a question mark, and what somebody felt."""
        return {i for i, word in enumerate(doc) if word in self._feelings or (i and doc[i - 1] == self._asked)}

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
        labels, outcomes = [IGNORED] * len(read), self.outcomes(read)
        for i, word in enumerate(read):
            if word in self._words and rng.chance(_OUTCOMES if i in outcomes else _MASKED):
                labels[i] = word
                draw = rng.uniform(1, 10)
                read[i] = self._id[MASK] if draw <= 8 else rng.pick(self._words) if draw == 9 else word
        if all(label == IGNORED for label in labels):
            labels[1], read[1] = read[1], self._id[MASK]
        return read, labels, len(parts[0])

    def collate(self, family: str, docs: Sequence[Sequence[int]], rng: Rng) -> dict[str, Tensor]:
        """Batch for the model's own loss, padded to its longest example.

        Args:
            family: ``t5`` or ``bert``.
            docs: word ids of each document.
            rng: source of the choices.

        Returns:
            Arguments of ``model.forward``, each ``(batch, seq)``.
        """
        pad = self._id[PAD]
        if family == "t5":
            read, write = zip(*(self.corrupt_spans(doc, rng) for doc in docs), strict=True)
            inputs = _padded(read, pad)
            return {"input_ids": inputs, "attention_mask": (inputs != pad).long(), "labels": _padded(write, IGNORED)}
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
