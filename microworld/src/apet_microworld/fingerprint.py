"""Fingerprints of all generated texts, by which two machines can tell that theirs are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from apet_microworld.documents import corpus
from apet_microworld.tasks import TASKS, rows
from apet_microworld.tokenizer import vocabulary
from apet_microworld.world import SPLITS

SAMPLE = 2000
"""Documents of the corpus that enter its fingerprint; the corpus has no end."""


def text_fingerprint(texts: Iterable[str]) -> str:
    """sha256 of texts in their order, 64 hex digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def fingerprints(seed: int = 0) -> dict[str, str]:
    """Fingerprints of the first 2,000 documents, the vocabulary, and each task with all its splits.

    Args:
        seed: of documents and tasks; the vocabulary has none.

    Returns:
        ``corpus``, ``vocabulary`` and ``tasks/<name>`` -> sha256, 64 hex digits.
    """
    sums = {"corpus": text_fingerprint(corpus(seed, SAMPLE)), "vocabulary": text_fingerprint(vocabulary())}
    for task in TASKS:
        examples = (json.dumps(row, ensure_ascii=False) for split in SPLITS for row in rows(task, split, seed))
        sums[f"tasks/{task}"] = text_fingerprint(examples)
    return sums
