"""Metrics of a whole split: correlations, R² and F1 over classes, labels or entities are no mean over examples.

Each is two functions: numbers of every example, ``(examples, …)``, and what they come to. Its interval resamples the
examples and computes the metric anew, so that it is one of the metric itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from apet.tasks.metrics import Metric, TaskType

Numbers = npt.NDArray[np.float64]
Count = Callable[[Sequence[str | None], Sequence[str]], Numbers]
Summary = Callable[[Numbers], float]


def values(predictions: Sequence[str | None], references: Sequence[str]) -> Numbers:
    """Predicted and true number of each example, ``(examples, 2)``; an answer that is no number is 0."""
    return np.array([(_number(p), float(r)) for p, r in zip(predictions, references, strict=True)])


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if np.isfinite(value) else 0.0


def pearson(pairs: Numbers) -> float:
    """Pearson's correlation of the two columns, in [-1, 1]; 0 where one of them is constant."""
    x, y = (pairs - pairs.mean(0)).T
    norm = float(np.sqrt((x @ x) * (y @ y)))
    # Of equal numbers the mean is off by rounding: what is left of them is no variation.
    varies = min(np.ptp(pairs, axis=0)) > 0 and norm > 0
    return float(np.clip(x @ y / norm, -1, 1)) if varies else 0.0


def spearman(pairs: Numbers) -> float:
    """Spearman's rank correlation of the two columns, in [-1, 1]; ties have their mean rank."""
    from scipy.stats import rankdata  # here, since importing it takes half a second

    return pearson(rankdata(pairs, axis=0))


def r_squared(pairs: Numbers) -> float:
    """Share of the true numbers' variance that is predicted, at most 1; below 0 where their mean would do better."""
    error, spread = ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(), ((pairs[:, 1] - pairs[:, 1].mean()) ** 2).sum()
    if spread == 0:  # as scikit-learn has it
        return float(error == 0)
    return float(1 - error / spread)


def root_mean_square(pairs: Numbers) -> float:
    """Root of the mean squared difference of the two columns."""
    return float(np.sqrt(((pairs[:, 0] - pairs[:, 1]) ** 2).mean()))


def mean_distance(pairs: Numbers) -> float:
    """Mean absolute difference of the two columns."""
    return float(np.abs(pairs[:, 0] - pairs[:, 1]).mean())


def class_numbers(predictions: Sequence[str | None], references: Sequence[str]) -> Numbers:
    """Predicted and true class of each example as numbers, ``(examples, 2)``; -1 = no class."""
    classes = {word: n for n, word in enumerate(sorted(set(references) | {p for p in predictions if p is not None}))}
    return np.array(
        [(-1 if p is None else classes[p], classes[r]) for p, r in zip(predictions, references, strict=True)]
    )


def macro_f1(numbers: Numbers) -> float:
    """Mean F1 over the classes that occur among answers or references, in [0, 1]; each class counts alike."""
    given, true = numbers.astype(int).T
    size = int(numbers.max()) + 1
    right = np.bincount(true[given == true], minlength=size)
    total = np.bincount(true, minlength=size) + np.bincount(given[given >= 0], minlength=size)
    return float((2 * right[total > 0] / total[total > 0]).mean())


def label_counts(predictions: Sequence[str | None], references: Sequence[str]) -> Numbers:
    """Labels of each example that are right, given and true, ``(examples, 3)``; answers are JSON lists of labels."""
    rows = []
    for p, r in zip(predictions, references, strict=True):
        given, true = set(_labels(p)), set(_labels(r))
        rows.append((len(given & true), len(given), len(true)))
    return np.array(rows, float)


def _labels(text: str | None) -> list[str]:
    try:
        labels = json.loads(text or "[]")
    except ValueError:
        return []
    return [str(x) for x in labels] if isinstance(labels, list) else []


def entity_counts(predictions: Sequence[str | None], references: Sequence[str]) -> Numbers:
    """Entities of each example that are right, given and true, ``(examples, 3)``, as seqeval reads IOB tags."""
    # Tags stand with spaces between them; those that an answer lacks, since its text was cut, are O.
    rows = []
    for p, r in zip(predictions, references, strict=True):
        tags = r.split()
        given = set(entities(_as_long(p, len(tags), "O")))
        true = set(entities(tags))
        rows.append((len(given & true), len(given), len(true)))
    return np.array(rows, float)


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of a text as seqeval reads them: IOB1, IOB2, IOE and IOBES tags, also where a B- is missing.

    Returns:
        Type, first and last token of each.
    """
    found = []
    begin, part_before, kind_before = 0, "O", ""
    for n, tag in enumerate([*tags, "O"]):
        part, kind = tag[:1], tag[1:].split("-", maxsplit=1)[-1] or "_"
        is_new = part != "O" and (part in "BS" or part_before in "OES" or kind != kind_before)
        if part_before != "O" and (part == "O" or is_new):
            found.append((kind_before, begin, n - 1))
        begin = n if is_new else begin
        part_before, kind_before = part, kind
    return found


def tag_counts(predictions: Sequence[str | None], references: Sequence[str]) -> Numbers:
    """Tags of each example that are right, and all, ``(examples, 2)``."""
    rows = []
    for p, r in zip(predictions, references, strict=True):
        tags = r.split()
        rows.append((sum(a == b for a, b in zip(_as_long(p, len(tags), ""), tags, strict=True)), len(tags)))
    return np.array(rows, float)


def _as_long(text: str | None, length: int, fill: str) -> list[str]:
    tags = (text or "").split()
    return [*tags, *[fill] * (length - len(tags))][:length]


def micro_f1(counts: Numbers) -> float:
    """F1 over all labels or entities together, in [0, 1]: 2 · right / (given + true); 0 where there are none."""
    right, given, true = counts.sum(0)
    return float(2 * right / (given + true)) if given + true else 0.0


def share(counts: Numbers) -> float:
    """Share of what is right in all, in [0, 1]."""
    right, total = counts.sum(0)
    return float(right / total) if total else 0.0


def builtin() -> list[Metric]:
    """The metrics of this file."""

    def metric(name: str, task_type: TaskType, numbers: Count, summary: Summary, description: str) -> Metric:
        return Metric(
            name,
            None,
            description=description,
            task_types=(task_type,),
            numbers=numbers,
            summary=summary,
            in_percent=task_type != "regression",
            lower_is_better=name in ("rmse", "mae"),
        )

    return [
        metric("macro-f1", "single-label", class_numbers, macro_f1, "mean F1 over classes, each counted alike"),
        metric("micro-f1", "multi-label", label_counts, micro_f1, "F1 over all labels of all examples together"),
        metric("pearson", "regression", values, pearson, "correlation with the true numbers"),
        metric("spearman", "regression", values, spearman, "correlation of their ranks"),
        metric("r2", "regression", values, r_squared, "share of the true numbers' variance that is predicted"),
        metric("rmse", "regression", values, root_mean_square, "root of the mean squared error, in the data's units"),
        metric("mae", "regression", values, mean_distance, "mean absolute error, in the data's units"),
        metric("seqeval-f1", "token-classification", entity_counts, micro_f1, "F1 over entities, as seqeval reads IOB"),
        metric("tag-accuracy", "token-classification", tag_counts, share, "share of tokens with the right tag"),
    ]
