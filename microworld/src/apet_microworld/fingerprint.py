"""Fingerprints of everything that the generator makes, by which two machines can tell that they speak of one world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from apet_microworld.documents import corpus
from apet_microworld.tasks import TASKS, rows
from apet_microworld.tokenizer import vocabulary
from apet_microworld.world import SPLITS

SAMPLE = 2000


def text_fingerprint(texts: Iterable[str]) -> str:
    """sha256 of texts in their order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def fingerprints(seed: int = 0) -> dict[str, str]:
    """sha256 of the corpus's first 2,000 documents, of the vocabulary, and of each task with all its splits."""
    out = {"corpus": text_fingerprint(corpus(seed, SAMPLE)), "vocabulary": text_fingerprint(vocabulary())}
    for task in TASKS:
        examples = (json.dumps(row, ensure_ascii=False) for split in SPLITS for row in rows(task, split, seed))
        out[f"tasks/{task}"] = text_fingerprint(examples)
    return out
