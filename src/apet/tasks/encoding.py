"""Examples as token ids: encoded once, cut to length where it harms least, kept flat and on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from apet.cache import cache_folder, write_cached
from apet.errors import ApetError
from apet.tasks.examples import Example

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Encoded:
    """One example as a backbone reads it.

    Attributes:
        input_ids: token ids of the input, special ones included, ``(seq,)``.
        target: what the objective predicts: the class, or the answer's token ids, ``(t,)``.
        segment_start: where the second segment begins; ``len(input_ids)`` where there is only one.
        mask_position: place of the masked answer; -1 where there is none.
        num_cut: tokens of the text that did not fit.
    """

    input_ids: TokenIds
    target: TokenIds
    segment_start: int
    mask_position: int = -1
    num_cut: int = 0


@dataclass(frozen=True)
class EncodedSet:
    """Many encoded examples in flat arrays: 4 bytes a token, whatever their number."""

    arrays: dict[str, npt.NDArray[np.int32 | np.int64]]

    def __len__(self) -> int:
        return len(self.arrays["segment_start"])

    def __getitem__(self, i: int) -> Encoded:
        a = self.arrays
        return Encoded(
            a["ids"][a["ids_end"][i - 1] if i else 0 : a["ids_end"][i]].astype(np.int32),
            a["target"][a["target_end"][i - 1] if i else 0 : a["target_end"][i]].astype(np.int32),
            int(a["segment_start"][i]),
            int(a["mask_position"][i]),
            int(a["num_cut"][i]),
        )

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each input, ``(n,)``."""
        return np.diff(self.arrays["ids_end"], prepend=0)

    @property
    def num_truncated(self) -> int:
        """Examples of which something was cut off."""
        return int((self.arrays["num_cut"] > 0).sum())

    def subset(self, rows: Sequence[int]) -> EncodedSet:
        """The examples of these rows, in the order given."""
        return EncodedSet.of([self[i] for i in rows])

    @classmethod
    def of(cls, encoded: Sequence[Encoded]) -> EncodedSet:
        """A set of encoded examples, in their order."""
        empty = np.empty(0, np.int32)
        return cls(
            {
                "ids": np.concatenate([empty, *(e.input_ids for e in encoded)]),
                "ids_end": np.cumsum([len(e.input_ids) for e in encoded], dtype=np.int64),
                "target": np.concatenate([empty, *(e.target for e in encoded)]),
                "target_end": np.cumsum([len(e.target) for e in encoded], dtype=np.int64),
                "segment_start": np.array([e.segment_start for e in encoded], np.int32),
                "mask_position": np.array([e.mask_position for e in encoded], np.int32),
                "num_cut": np.array([e.num_cut for e in encoded], np.int32),
            }
        )


def encode_all(
    encode: Callable[[Example], Encoded],
    examples: Sequence[Example],
    recipe: Sequence[object],
    fingerprint: str,
    tick: Callable[[int], None] = lambda n: None,
) -> EncodedSet:
    """Encode examples, or take them from the cache.

    Args:
        encode: one example to its tokens.
        examples: in order.
        recipe: everything besides the examples that decides the tokens, as plain data: the cache's key.
        fingerprint: of the examples, see `apet.tasks.examples.examples_fingerprint`.
        tick: told how many examples are done.

    Returns:
        Their tokens, in the examples' order.
    """
    key = hashlib.sha256(json.dumps([_VERSION, recipe, fingerprint]).encode()).hexdigest()[:24]
    path = cache_folder() / "tokens" / f"{key}.safetensors"
    try:
        cached = EncodedSet(load_file(path))
        tick(len(examples))
        return cached
    except (OSError, SafetensorError):  # not there, or cut off: it is made anew
        pass
    rows = []
    for n, example in enumerate(examples, start=1):
        rows.append(encode(example))
        tick(n)
    encoded = EncodedSet.of(rows)
    write_cached(path, partial(_save, encoded))
    return encoded


_VERSION = 3
"""Raised when the same recipe begins to give other tokens, or their file another layout."""


def _save(encoded: EncodedSet, path: Path) -> None:
    try:
        save_file(encoded.arrays, path)
    except SafetensorError as e:  # how a full disk comes out of it
        raise OSError(str(e)) from e


def truncate_parts(parts: Sequence[tuple[list[int], bool]], room: int) -> tuple[list[list[int]], int]:
    """Cut the ends of the longest parts until all fit into ``room`` tokens.

    Args:
        parts: ``(token ids, whether the part may be shortened)``.
        room: tokens that all parts together may have.

    Returns:
        The parts, and how many tokens were cut off. Parts that may not be shortened stay whole, unless they alone
        exceed the room: then the end of the whole is cut.

    Raises:
        ApetError: there is no room at all.
    """
    if room < 1:
        raise ApetError(
            f"no room for text is left ({room} tokens); give a larger max_input_length or a shorter template"
        )
    lengths = [len(ids) for ids, _ in parts]
    num_cut = surplus = max(0, sum(lengths) - room)
    while surplus:
        longest = max((i for i, (_, short) in enumerate(parts) if short), key=lambda i: lengths[i], default=None)
        if longest is None or lengths[longest] == 0:
            break
        # Down to the length of the next longest one at once: one token at a time would be slow on documents.
        others = max((lengths[i] for i, (_, short) in enumerate(parts) if short and i != longest), default=0)
        step = min(surplus, max(1, lengths[longest] - others))
        lengths[longest] -= step
        surplus -= step
    kept = [ids[:n] for (ids, _), n in zip(parts, lengths, strict=True)]
    while surplus:
        last = next(i for i in reversed(range(len(kept))) if kept[i])
        step = min(surplus, len(kept[last]))
        kept[last] = kept[last][: len(kept[last]) - step]
        surplus -= step
    return kept, num_cut
