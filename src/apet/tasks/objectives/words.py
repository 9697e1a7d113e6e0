"""Label words that a backbone writes freely."""

from __future__ import annotations

from collections.abc import Sequence

from apet.tasks.reader import Reader
from apet.tasks.task import Task


class LabelWords:
    """A task's label words in tokens; empty for free text.

    Attributes:
        one_step: every label is one token, so the first token written decides.
        most: tokens that an answer may have: those of the longest label with its end token, or the task's limit.
    """

    def __init__(self, task: Task, reader: Reader, lead: str) -> None:
        self.task = task
        ids = [reader.word(lead + w) for w in task.words]
        self.one_step = bool(ids) and all(len(i) == 1 for i in ids)
        self.most = max(map(len, ids)) + 1 if ids else task.max_output
        self._word_of = {i[0]: w for i, w in zip(ids, task.words, strict=True)} if self.one_step else {}
        self._known = {" ".join(w.split()): w for w in task.words}

    def of_tokens(self, first: Sequence[int]) -> list[str | None]:
        """Label words by their first token; None for any other token."""
        return [self._word_of.get(i) for i in first]

    def of_texts(self, texts: Sequence[str]) -> list[str | None]:
        """Free text as it is; in a classification task only label words count, anything else is None."""
        if not self.task.is_classification:
            return list(texts)
        return [self._known.get(" ".join(t.split())) for t in texts]
