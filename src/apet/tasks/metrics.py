"""Measures of the field: each scores items in [0, 1], and the mean comes with an interval over the items."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from apet.tasks.task import MetricName


@dataclass(frozen=True)
class MetricScore:
    """A mean over items, in [0, 1].

    Attributes:
        measure: which.
        value: the mean.
        low, high: 95 % interval over the items: Wilson's for accuracy, percentile bootstrap otherwise.
        n: items.
    """

    metric: MetricName
    score: float
    ci_low: float
    ci_high: float
    num_examples: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as written into files."""
        return {
            "metric": self.metric,
            "score": self.score,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "num_examples": self.num_examples,
        }


def compute_metric(
    metric: MetricName, predictions: Sequence[str | None], references: Sequence[Sequence[str]]
) -> MetricScore:
    """Score predictions.

    Args:
        measure: ``accuracy`` (equal to an accepted answer), ``f1`` (best over the accepted answers, tokens after
            the open-QA normalisation), ``rouge-l`` (F-measure, stemmed).
        predicted: one answer each; None = none of the label words, which is wrong.
        accepted: accepted answers of each item.
    """
    items = item_scores(metric, predictions, references)
    low, high = _wilson(items) if metric == "accuracy" else _bootstrap(items)
    return MetricScore(metric, float(items.mean()), low, high, len(items))


def item_scores(
    metric: MetricName, predictions: Sequence[str | None], references: Sequence[Sequence[str]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One score for each item, (items,)."""
    rule = {"accuracy": _equal, "f1": token_f1, "rouge-l": _rouge_l}[metric]
    pairs = zip(predictions, references, strict=True)
    return np.array([0.0 if p is None else max(rule(p, a) for a in answers) for p, answers in pairs])


def _equal(predicted: str, answer: str) -> float:
    return float(predicted == answer)


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces (Rajpurkar et al. 2016, their evaluation)."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(predicted: str, answer: str) -> float:
    """Harmonic mean of precision and recall over normalised tokens; two empty answers agree."""
    p, a = normalize_answer(predicted).split(), normalize_answer(answer).split()
    if not p or not a:
        return float(p == a)
    same = sum((Counter(p) & Counter(a)).values())
    return 2 * same / (len(p) + len(a))


@cache
def _scorer() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def _rouge_l(predicted: str, answer: str) -> float:
    return float(_scorer().score(answer, predicted)["rougeL"].fmeasure)


def _wilson(items: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    ci = stats.binomtest(round(items.sum()), len(items)).proportion_ci(method="wilson")
    return float(ci.low), float(ci.high)


def _bootstrap(items: np.ndarray[Any, np.dtype[np.float64]], draws: int = 2000) -> tuple[float, float]:
    rng = np.random.default_rng(0)  # fixed: the interval of a result is part of the result
    means = np.array([items[rng.integers(len(items), size=len(items))].mean() for _ in range(draws)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
