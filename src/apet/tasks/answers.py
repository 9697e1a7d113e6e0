"""What a model answers, and how the answers to a classification task are counted class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What a model answered to one example.

    Attributes:
        text: the label word, or the text as the model wrote it.
        is_valid: False where the task asks for a label word and the text is none of them; such an answer scores 0.
        scores: probability of each label, choice or tag, in their order, or of what was written; None = not asked for.

    Examples:
        >>> from apet.tasks.answers import Answer
        >>> Answer("rather good", is_valid=False).scored is None
        True
    """

    text: str
    is_valid: bool = True
    scores: tuple[float, ...] | None = field(default=None, compare=False)

    @property
    def scored(self) -> str | None:
        """What a metric compares: the text, None where it is no label word."""
        return self.text if self.is_valid else None


@dataclass(frozen=True)
class ClassCount:
    """The answers of one class.

    Attributes:
        label: its label word.
        examples: of this class.
        answered: times it was the answer.
        right: times it was the right one.
        f1: harmonic mean of precision and recall, in [0, 1]; 0 where nothing is right.
    """

    label: str
    examples: int
    answered: int
    right: int
    f1: float


def count_by_class(
    label_words: Sequence[str], answers: Sequence[Answer], references: Sequence[Sequence[str]]
) -> tuple[list[ClassCount], float]:
    """Answers counted by class, and their macro-F1, by scikit-learn.

    Classes that are neither among the references nor among the answers have a row, and no part in the mean, as in
    scikit-learn.

    Args:
        label_words: of the task, in the order of its classes.
        answers: one for each example.
        references: accepted answers of each example; the first one is its class.

    Returns:
        A row for each label word, and the mean F1 over the classes that occur, in [0, 1].

    Examples:
        >>> from apet.tasks.answers import Answer, count_by_class
        >>> rows, macro_f1 = count_by_class(["bad", "good"], [Answer("bad"), Answer("bad")], [["bad"], ["good"]])
        >>> [(r.label, r.examples, r.answered, r.right) for r in rows], round(macro_f1, 3)
        ([('bad', 1, 2, 1), ('good', 1, 0, 0)], 0.333)
    """
    from sklearn.metrics import f1_score, multilabel_confusion_matrix  # here, since importing it takes half a second

    words = list(label_words)
    index = {word: i for i, word in enumerate(words)}
    true = [index[accepted[0]] for accepted in references]
    # An answer that is no label is of no class: it is missing in its own one, and too many in none.
    given = [index.get(a.text, -1) if a.is_valid else -1 for a in answers]
    classes = list(range(len(words)))
    tables = multilabel_confusion_matrix(true, given, labels=classes)  # (classes, 2, 2)
    scores = f1_score(true, given, labels=classes, average=None, zero_division=0)
    rows = [
        ClassCount(word, int(t[1].sum()), int(t[:, 1].sum()), int(t[1, 1]), float(f1))
        for word, t, f1 in zip(words, tables, scores, strict=True)
    ]
    occurring = [r.f1 for r in rows if r.examples or r.answered]
    return rows, sum(occurring) / len(occurring)
