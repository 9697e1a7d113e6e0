"""Measures agree with independent implementations; intervals cover what they claim."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apet.tasks.measures import item_scores, score

WORDS = ["the", "a", "Paris", "paris,", "in", "1998", "Andrew", "Johnson", "an", "U.S.", "running", "runs", "-"]
texts = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)


def squad_f1(prediction: str, truth: str) -> float:
    """The rules of SQuAD's evaluation, written out: lower, strip punctuation, articles, white space; token overlap."""

    def tokens(s: str) -> list[str]:
        s = s.lower()
        s = "".join(ch for ch in s if ch not in set(string.punctuation))
        s = re.sub(r"\b(a|an|the)\b", " ", s)
        return s.split()

    p, t = tokens(prediction), tokens(truth)
    if len(p) == 0 or len(t) == 0:
        return float(p == t)
    common = Counter(p) & Counter(t)
    same = sum(common.values())
    if same == 0:
        return 0.0
    precision, recall = same / len(p), same / len(t)
    return 2 * precision * recall / (precision + recall)


def longest_common(a: list[str], b: list[str]) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=8))
def test_f1_is_squads_best_over_the_gold_answers(items):
    predicted = [p for p, _ in items]
    accepted = [tuple(a) for _, a in items]
    expected = [max(squad_f1(p, a) for a in answers) for p, answers in items]
    np.testing.assert_allclose(item_scores("f1", predicted, accepted), expected, atol=1e-6)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(items):
    from nltk.stem.porter import PorterStemmer

    stem = PorterStemmer().stem

    def tokens(s):
        return [stem(w) if len(w) > 3 else w for w in re.sub(r"[^a-z0-9]+", " ", s.lower()).split()]

    expected = []
    for p, a in items:
        x, y = tokens(p), tokens(a)
        same = longest_common(x, y)
        expected.append(2 * same / (len(x) + len(y)) if same else 0.0)
    got = item_scores("rouge-l", [p for p, _ in items], [(a,) for _, a in items])
    np.testing.assert_allclose(got, expected, atol=1e-6)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_accuracy_is_the_share_of_equal_answers(items):
    s = score("accuracy", [p for p, _ in items], [(a,) for _, a in items])
    assert s.value == pytest.approx(np.mean([p == a for p, a in items]))
    assert 0 <= s.low <= s.value <= s.high <= 1
    assert s.n == len(items)


def test_no_label_word_is_wrong_and_never_an_answer():
    s = score("accuracy", [None, "yes"], [("yes",), ("yes",)])
    assert s.value == 0.5


@pytest.mark.parametrize("truth", [0.5, 0.9])
def test_the_interval_of_accuracy_covers_the_truth_in_about_95_of_100_draws(truth):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        right = rng.random(200) < truth
        s = score("accuracy", ["x" if r else "y" for r in right], [("x",)] * 200)
        hits += s.low <= truth <= s.high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_bootstrap_interval_of_f1_has_the_width_of_the_standard_error():
    rng = np.random.default_rng(2)
    predicted = ["one two" if r else "three" for r in rng.random(300) < 0.4]
    s = score("f1", predicted, [("one two",)] * 300)
    se = np.sqrt(s.value * (1 - s.value) / 300)
    assert s.high - s.low == pytest.approx(2 * 1.96 * se, rel=0.1)
    assert score("f1", predicted, [("one two",)] * 300) == s, "an interval is part of the result: no chance in it"
