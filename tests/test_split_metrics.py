"""Metrics of a whole split, against scipy, scikit-learn, seqeval and sacrebleu; and what their intervals hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sacrebleu
from scipy import stats
from sklearn import metrics as sklearn
from sklearn.preprocessing import MultiLabelBinarizer

from apet.tasks.corpus_metrics import entities
from apet.tasks.metrics import METRICS, compute_metric

RNG = np.random.default_rng(3)
TRUE = RNG.normal(3, 2, 80).round(2)
GIVEN = (TRUE + RNG.normal(0, 1.5, 80)).round(1)
CLASSES = RNG.choice(["a", "b", "c", "d"], 80, p=[0.7, 0.2, 0.05, 0.05])
ANSWERS = np.where(RNG.random(80) < 0.6, CLASSES, RNG.choice(["a", "b", "c"], 80))
LABELS = [sorted(set(RNG.choice(["x", "y", "z"], RNG.integers(0, 4)))) for _ in range(80)]
GUESSES = [sorted(set(RNG.choice(["x", "y", "z"], RNG.integers(0, 4)))) for _ in range(80)]
TAGS = [list(RNG.choice(["O", "B-A", "I-A", "B-B", "I-B"], RNG.integers(1, 9))) for _ in range(60)]
FOUND = [[t if RNG.random() < 0.7 else "O" for t in tags] for tags in TAGS]

SEQEVAL_F1 = 0.7649402390438247
"""What seqeval 1.2.2 says of these tags; it has no wheel, so that not every environment holds it."""


def score(name, predictions, references):
    return compute_metric(name, predictions, [(r,) for r in references])


def numbers(values):
    return [repr(float(v)) for v in values]


def labels(values):
    return [json.dumps([str(x) for x in v]) for v in values]


def tags(values):
    return [" ".join(v) for v in values]


CASES = {
    "pearson": (numbers(GIVEN), numbers(TRUE), lambda: stats.pearsonr(GIVEN, TRUE).statistic),
    "spearman": (numbers(GIVEN), numbers(TRUE), lambda: stats.spearmanr(GIVEN, TRUE).statistic),
    "r2": (numbers(GIVEN), numbers(TRUE), lambda: sklearn.r2_score(TRUE, GIVEN)),
    "macro-f1": (list(ANSWERS), list(CLASSES), lambda: sklearn.f1_score(CLASSES, ANSWERS, average="macro")),
    "micro-f1": (
        labels(GUESSES),
        labels(LABELS),
        lambda: sklearn.f1_score(
            MultiLabelBinarizer(classes=["x", "y", "z"]).fit_transform(LABELS),
            MultiLabelBinarizer(classes=["x", "y", "z"]).fit_transform(GUESSES),
            average="micro",
        ),
    ),
    "seqeval-f1": (tags(FOUND), tags(TAGS), lambda: SEQEVAL_F1),
    "tag-accuracy": (
        tags(FOUND),
        tags(TAGS),
        lambda: sklearn.accuracy_score(*([t for x in y for t in x] for y in (TAGS, FOUND))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_fields_own_libraries(name):
    predictions, references, theirs = CASES[name]
    found = score(name, predictions, references)
    assert found.score == pytest.approx(theirs(), abs=1e-12)
    assert found.ci_low < found.score < found.ci_high
    assert found.num_examples == len(references)


def test_entities_are_those_of_seqeval():
    """Of all schemes, mixed at random: a missing B-, types that change within, entities of one token."""
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert pytest.importorskip("seqeval.metrics").f1_score(TAGS, FOUND) == pytest.approx(SEQEVAL_F1, abs=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(500):
        some = list(rng.choice(["O", *(f"{p}-{t}" for p in "BIES" for t in "AB")], rng.integers(0, 9)))
        assert entities(some) == labeling.get_entities(some)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B-A I-A O B-B", [("A", 0, 1), ("B", 3, 3)]),
        ("I-A I-A I-B", [("A", 0, 1), ("B", 2, 2)]),
        ("B-A B-A", [("A", 0, 0), ("A", 1, 1)]),
        ("S-A B-A E-A I-A", [("A", 0, 0), ("A", 1, 2), ("A", 3, 3)]),
        ("O O", []),
    ],
)
def test_entities(text, found):
    assert entities(text.split()) == found


def test_chrf_is_the_mean_of_sacrebleus_sentences():
    predictions, references = ["the cat sat", "ein Hund", "", "κόσμε"], ["the cat sat down", "der Hund", "x", "κόσμε"]
    theirs = np.mean([sacrebleu.sentence_chrf(p, [r]).score for p, r in zip(predictions, references, strict=True)])
    assert score("chrf", predictions, references).score == pytest.approx(theirs / 100)


def test_exact_match_is_squads():
    found = score("exact-match", ["The Cat!", "a dog", "two"], ["cat", "dogs", "two"])
    assert found.score == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["pearson", "spearman", "r2", "micro-f1", "seqeval-f1", "macro-f1"])
def test_intervals_are_the_percentile_bootstrap_of_the_metric_itself(name):
    """Held against scipy's, which draws other samples: both ends agree to what 2,000 draws leave open."""
    predictions, references, _ = CASES[name]
    entry = METRICS.get(name)
    rows = entry.numbers(predictions, references)
    theirs = stats.bootstrap(
        (np.arange(len(rows)),),
        lambda chosen: entry.summary(rows[chosen.astype(int)]),
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(8),
    ).confidence_interval
    found = score(name, predictions, references)
    width = theirs.high - theirs.low
    assert found.ci_low == pytest.approx(theirs.low, abs=0.1 * width)
    assert found.ci_high == pytest.approx(theirs.high, abs=0.1 * width)


def test_intervals_of_a_correlation_hold_the_true_one_about_as_often_as_they_say():
    rng, true, held = np.random.default_rng(0), 0.6, 0
    for _ in range(40):
        x, y = rng.multivariate_normal([0, 0], [[1, true], [true, 1]], 60).T
        found = score("pearson", numbers(x), numbers(y))
        held += found.ci_low <= true <= found.ci_high
    assert held >= 33  # 38 are meant; fewer than 33 would come less than once in 100 times


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_what_never_varies_correlates_with_nothing(name):
    assert score(name, ["0.1"] * 30, numbers(range(30))).score == 0
    assert score(name, numbers(range(30)), ["2.3"] * 30).score == 0


def test_an_answer_that_cannot_be_read_counts_as_none():
    assert score("pearson", [None, "words", "nan", "3"], ["1", "2", "2", "3"]).score == pytest.approx(
        stats.pearsonr([0, 0, 0, 3], [1, 2, 2, 3]).statistic
    )
    assert score("micro-f1", [None, "no json", '["a"]'], ['["a"]', "[]", '["a"]']).score == pytest.approx(2 / 3)
    assert score("seqeval-f1", [None, "B-A"], ["B-A I-A", "B-A O"]).score == pytest.approx(2 / 3)  # cut texts are O
    assert score("macro-f1", [None, "a"], ["a", "a"]).score == pytest.approx(2 / 3)
