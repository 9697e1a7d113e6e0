"""The embedded world: a small made-up language, eleven tasks in it and backbones pre-trained on it. All synthetic."""

from __future__ import annotations

from apet.microworld.digests import digests
from apet.microworld.documents import corpus
from apet.microworld.tasks import TASKS, rows

__all__ = ["TASKS", "corpus", "digests", "rows"]
