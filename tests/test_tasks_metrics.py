"""Measures agree with independent implementations; intervals cover what they claim."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apet.tasks.metrics import compute_metric, item_scores
from tiny_backbones import SHARED

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
    s = compute_metric("accuracy", [p for p, _ in items], [(a,) for _, a in items])
    assert s.score == pytest.approx(np.mean([p == a for p, a in items]))
    assert 0 <= s.ci_low <= s.score <= s.ci_high <= 1
    assert s.num_examples == len(items)


def test_no_label_word_is_wrong_and_never_an_answer():
    s = compute_metric("accuracy", [None, "yes"], [("yes",), ("yes",)])
    assert s.score == 0.5


@pytest.mark.parametrize("truth", [0.5, 0.9])
def test_the_interval_of_accuracy_covers_the_truth_in_about_95_of_100_draws(truth):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        right = rng.random(200) < truth
        s = compute_metric("accuracy", ["x" if r else "y" for r in right], [("x",)] * 200)
        hits += s.ci_low <= truth <= s.ci_high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_bootstrap_interval_of_f1_has_the_width_of_the_standard_error():
    rng = np.random.default_rng(2)
    predicted = ["one two" if r else "three" for r in rng.random(300) < 0.4]
    s = compute_metric("f1", predicted, [("one two",)] * 300)
    se = np.sqrt(s.score * (1 - s.score) / 300)
    assert s.ci_high - s.ci_low == pytest.approx(2 * 1.96 * se, rel=0.1)
    assert compute_metric("f1", predicted, [("one two",)] * 300) == s, (
        "an interval is part of the result: no chance in it"
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_accuracy_is_scikit_learns(items):
    from sklearn.metrics import accuracy_score

    predicted, true = [p for p, _ in items], [a for _, a in items]
    got = compute_metric("accuracy", predicted, [(a,) for a in true]).score
    assert got == pytest.approx(accuracy_score(true, predicted), abs=1e-6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real subsets are not at hand")
def test_real_predictions_score_as_the_fields_own_tools_say():
    """Answers that a person could give to real items: a dialogue's first lines, a question's last words, one label."""
    from rouge_score import rouge_scorer
    from sklearn.metrics import accuracy_score

    from apet.tasks.sources import load_data
    from apet.tasks.task import registered_tasks

    held = {n: load_data(registered_tasks()[n], SHARED / f).splits["validation"] for n, f in REAL.items()}
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    lead = [" ".join(e.texts["dialogue"].split("\n")[:2]) for e in held["samsum"]]
    expected = [scorer.score(e.references[0], p)["rougeL"].fmeasure for e, p in zip(held["samsum"], lead, strict=True)]
    np.testing.assert_allclose(
        item_scores("rouge-l", lead, [e.references for e in held["samsum"]]), expected, atol=1e-6
    )
    last = [" ".join(e.texts["question"].split()[-2:]) for e in held["nq-open"]]
    expected = [max(squad_f1(p, a) for a in e.references) for e, p in zip(held["nq-open"], last, strict=True)]
    got = item_scores("f1", last, [e.references for e in held["nq-open"]])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert 0 < got.mean() < 1
    word = ["yes"] * len(held["mrpc"])
    true = [e.references[0] for e in held["mrpc"]]
    assert compute_metric("accuracy", word, [(t,) for t in true]).score == pytest.approx(
        accuracy_score(true, word), abs=1e-6
    )


REAL = {"samsum": "samsum", "nq-open": "nq_open", "mrpc": "mrpc"}


LANGUAGES = {
    "Russian": ("Очень хороший фильм, советую всем", "Очень плохой фильм"),
    "Greek": ("Πολύ καλή ταινία", "Πολύ κακή ταινία"),
    "Hindi": ("यह फ़िल्म बहुत अच्छी है", "यह फ़िल्म बुरी है"),
    "Chinese": ("这部电影很好看", "这部电影很无聊"),
    "Japanese": ("とても良い映画でした。", "退屈な映画でした。"),
    "Thai": ("หนังเรื่องนี้ดีมาก", "หนังเรื่องนี้แย่"),
    "Korean": ("정말 좋은 영화였어요", "지루한 영화였어요"),
    "Arabic": ("فيلم رائع جدا", "فيلم ممل جدا"),
    "German": ("Schöne Grüße aus Köln", "Grüße aus Bonn"),
    "emoji": ("👍🎉 👩‍👩‍👧", "👍 😞"),
}


@pytest.mark.parametrize("metric", ["rouge-l", "f1"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_of_every_language_agree_with_themselves_and_partly_with_others(metric, language):
    """ROUGE-L of a Russian text with itself was 0."""
    text, other = LANGUAGES[language]
    assert item_scores(metric, [text], [[text]]).item() == 1
    assert 0 < item_scores(metric, [text], [[other]]).item() < 1
    assert item_scores(metric, [text], [["an English sentence"]]).item() == 0


def test_english_scores_are_those_of_the_packages_to_the_digit():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = [
        ("The cats sat on mats.", "A cat is sitting on the mat"),
        ("running, runs", "run!"),
        ("", "x"),
        ("a b", ""),
    ]
    for prediction, reference in pairs:
        expected = scorer.score(reference, prediction)["rougeL"].fmeasure
        assert item_scores("rouge-l", [prediction], [[reference]]).item() == expected
