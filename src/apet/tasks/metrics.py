"""Metrics of the field, each with an interval over the examples: means of scores in [0, 1], and others.

A metric is one entry of `METRICS`: a function of one prediction and one reference, and what kind of interval fits it;
or, where it is no mean over examples, numbers of each example and what they come to (`apet.tasks.corpus_metrics`). A
guest registers one in its own file::

    from apet.tasks.metrics import METRICS, Metric

    METRICS.register("starts-alike", Metric("starts-alike", lambda p, r: float(p[:9] == r[:9])), __name__)
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from apet.registry import Registry
from apet.tasks.words import TokenizerName, reads_as_english, unicode_words

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

PairScores = npt.NDArray[np.float64]
TaskType = Literal[
    "single-label", "multi-label", "regression", "token-classification", "multiple-choice", "text-generation"
]
"""What is asked: one of the labels, any of them, a number, a tag for each token, one of a row's choices, a text."""


@dataclass(frozen=True)
class Metric:
    """How one prediction is scored against one reference, and how sure the mean over examples is.

    Attributes:
        name: as task files give it.
        score_pair: (prediction, reference) -> score in [0, 1]. Of several references the best one counts. None for a
            metric that is no mean over examples.
        needs_labels: it is for classification, where predictions and references are label words; else for free text.
        task_types: types of task that it fits; without any, as ``needs_labels`` says.
        numbers: (predictions, references) -> ``(examples, …)``, for a metric that is no mean over examples; the first
            reference of each example counts.
        summary: of these numbers, the metric, at most 1.
        interval: 95 % interval of the mean over examples: ``wilson`` where a score is 0 or 1, else ``bootstrap``.
        description: one line for people.
        has_words: it compares texts word by word, and ``score_pair`` takes ``tokenizer=``, by which they are cut.
        in_percent: it is a share, in [0, 1], and read in percent; else any number, read as it is.
        lower_is_better: it is an error. Its *score* is its negative, so that more is better everywhere, as
            scikit-learn's ``neg_mean_absolute_error`` has it; people read the error.

    Raises:
        ValueError: an error with Wilson's interval, which is one of a share.
    """

    name: str
    score_pair: Callable[..., float] | None
    needs_labels: bool = False
    interval: Literal["wilson", "bootstrap"] = "bootstrap"
    description: str = ""
    has_words: bool = False
    task_types: tuple[TaskType, ...] = ()
    numbers: Callable[[Sequence[str | None], Sequence[str]], PairScores] | None = None
    summary: Callable[[PairScores], float] | None = None
    in_percent: bool = True
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        if self.interval == "wilson" and (self.lower_is_better or not self.in_percent):
            raise ValueError(f"metric {self.name} is no share; give it interval='bootstrap'")

    @property
    def sign(self) -> int:
        """By which its numbers become scores, of which more is better."""
        return -1 if self.lower_is_better else 1

    @property
    def types(self) -> tuple[TaskType, ...]:
        """Types of task that it fits."""
        return self.task_types or (("single-label",) if self.needs_labels else ("text-generation",))


@dataclass(frozen=True)
class MetricScore:
    """A metric over examples.

    Attributes:
        metric: its name.
        score: the mean, in [0, 1]; of a correlation in [-1, 1], of R² at most 1, of an error its negative.
        ci_low: lower end of the metric's 95 % interval over the examples.
        ci_high: its upper end.
        num_examples: how many.
    """

    metric: str
    score: float
    ci_low: float
    ci_high: float
    num_examples: int

    def as_dict(self) -> dict[str, str | int | float]:
        """Plain data, as written into files."""
        return asdict(self)


def compute_metric(
    metric: str,
    predictions: Sequence[str | None],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName = "auto",
    *,
    intervals: bool = True,
) -> MetricScore:
    """The score of predictions, with its interval.

    Args:
        metric: name of a registered metric.
        predictions: one for each example; None = the model named none of the label words, which scores 0.
        references: accepted answers of each example, at least one.
        tokenizer: how texts are cut into words, where the metric compares words.
        intervals: False = the score alone, in less time; both ends are it.

    Returns:
        The mean, or what the metric is otherwise, and its 95 % interval over the examples.

    Raises:
        UnknownNameError: no such metric.
    """
    entry = METRICS.get(metric)
    if entry.numbers is not None and entry.summary is not None:
        numbers = entry.numbers(predictions, [accepted[0] for accepted in references])
        summary = entry.summary if entry.sign > 0 else partial(_negative, entry.summary)
        score = summary(numbers)
        low, high = _bootstrap_interval(numbers, summary) if intervals else (score, score)
        # Of few examples the resampled ones may all lie on one side of the whole.
        return MetricScore(metric, score, min(low, score), max(high, score), len(numbers))
    scores = item_scores(metric, predictions, references, tokenizer)
    interval = _wilson_interval if entry.interval == "wilson" else _bootstrap_interval
    low, high = interval(scores) if intervals else (float(scores.mean()), float(scores.mean()))
    return MetricScore(metric, float(scores.mean()), low, high, len(scores))


def item_scores(
    metric: str,
    predictions: Sequence[str | None],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName = "auto",
) -> PairScores:
    """The score of every example, ``(examples,)``, in [0, 1] or of an error its negative.

    Args:
        metric: name of a registered metric.
        predictions: one for each example; None scores 0, as an error what an empty text does.
        references: accepted answers of each example; the best score over them counts.
        tokenizer: how texts are cut into words, where the metric compares words.

    Returns:
        Scores in the order of the examples; NaN where the metric is none of single examples.

    Raises:
        UnknownNameError: no such metric.
    """
    entry = METRICS.get(metric)
    if entry.score_pair is None:
        return np.full(len(predictions), np.nan)
    score_pair = partial(entry.score_pair, tokenizer=tokenizer) if entry.has_words else entry.score_pair
    given = [("" if p is None and entry.lower_is_better else p) for p in predictions]
    pairs = zip(given, references, strict=True)
    return np.array(
        [0.0 if p is None else max(entry.sign * score_pair(p, r) for r in accepted) for p, accepted in pairs]
    )


def _negative(summary: Callable[[PairScores], float], numbers: PairScores) -> float:
    return -summary(numbers)


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces (Rajpurkar et al. 2016, their evaluation script)."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 where both are the same text, else 0."""
    return float(prediction == reference)


def token_f1(prediction: str, reference: str, tokenizer: TokenizerName = "auto") -> float:
    """Harmonic mean of precision and recall over normalized tokens; two empty answers agree (Rajpurkar et al. 2016).

    Texts in other languages are cut into words as Unicode has them, since SQuAD's rules know English alone.

    Returns:
        The score, in [0, 1].
    """
    english = reads_as_english(tokenizer, prediction, reference)
    # English articles are words of other languages, such as the French a.
    predicted, accepted = (
        normalize_answer(t).split() if english else unicode_words(t) for t in (prediction, reference)
    )
    if not predicted or not accepted:
        return float(predicted == accepted)
    num_common = sum((Counter(predicted) & Counter(accepted)).values())
    return 2 * num_common / (len(predicted) + len(accepted))


def rouge_l(prediction: str, reference: str, tokenizer: TokenizerName = "auto") -> float:
    """F-measure of the longest common subsequence of stemmed tokens (Lin 2004), by the package rouge-score.

    Its own tokens are those of English, for which every other letter is a space; texts in other languages are cut into
    words as Unicode has them.

    Returns:
        The score, in [0, 1].
    """
    scorer = _rouge_scorer(reads_as_english(tokenizer, prediction, reference))
    return float(scorer.score(reference, prediction)["rougeL"].fmeasure)


class _UnicodeTokenizer:
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return unicode_words(text)


@cache
def _rouge_scorer(english: bool) -> RougeScorer:
    from rouge_score import rouge_scorer  # here, since its tokenizers take a second to import

    if english:
        return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_UnicodeTokenizer())


def _mean(scores: PairScores) -> float:
    return float(scores.mean())


def _wilson_interval(scores: PairScores) -> tuple[float, float]:
    from scipy import stats

    ci = stats.binomtest(round(scores.sum()), len(scores)).proportion_ci(method="wilson")
    return float(ci.low), float(ci.high)


def _bootstrap_interval(
    scores: PairScores, summary: Callable[[PairScores], float] = _mean, num_resamples: int = 2000
) -> tuple[float, float]:
    rng = np.random.default_rng(0)  # fixed: the interval of a result is part of the result
    means = np.array([summary(scores[rng.integers(len(scores), size=len(scores))]) for _ in range(num_resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def same_text(prediction: str, reference: str) -> float:
    """1 where both are the same text but for case, punctuation, articles and spaces, else 0 (SQuAD's exact match)."""
    return float(normalize_answer(prediction) == normalize_answer(reference))


def chrf(prediction: str, reference: str) -> float:
    """F-score of character n-grams, n to 6, recall twice as important (Popović 2015), by sacrebleu, in [0, 1]."""
    from sacrebleu import sentence_chrf

    return min(1.0, float(sentence_chrf(prediction, [reference]).score) / 100)


def _load_builtin() -> None:
    from apet.tasks import corpus_metrics as of_split

    for metric in (
        Metric(
            "accuracy",
            exact_match,
            True,
            "wilson",
            "share of predictions that equal the label word",
            task_types=("single-label", "multiple-choice"),
        ),
        Metric(
            "exact-match",
            same_text,
            interval="wilson",
            description="share of answers that equal a reference, but for case, articles and punctuation",
        ),
        Metric("chrf", chrf, description="character n-grams in common with the reference, chrF2 of each answer"),
        *of_split.builtin(),
        Metric("f1", token_f1, has_words=True, description="token overlap with the best reference, as SQuAD evaluates"),
        Metric(
            "rouge-l",
            rouge_l,
            has_words=True,
            description="longest common subsequence with the reference, F-measure, stemmed",
        ),
    ):
        METRICS.register(metric.name, metric, __name__)


METRICS: Registry[Metric] = Registry("metric", "apet.metrics", _load_builtin)
"""Every metric by name."""
