"""Answers by class: what an accuracy does not tell, and answers that are no label."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apet.errors import ApetError
from apet.tasks.answers import Answer, count_by_class
from apet.tasks.metrics import item_scores
from apet.tasks.task import parse_task
from apet.training import run_dir
from apet.training.config import RunConfig
from apet.training.run import tune
from run_records import result_record
from tiny_backbones import save_backbone

WORDS = ["bad", "fine", "good"]
ANSWERS = st.sampled_from([*map(Answer, WORDS), Answer("great", is_valid=False), Answer("good", is_valid=False)])


@given(st.lists(st.tuples(ANSWERS, st.sampled_from(WORDS)), min_size=1, max_size=40))
def test_classes_are_counted_as_by_hand(pairs):
    answers, true = [a for a, _ in pairs], [t for _, t in pairs]
    rows, macro_f1 = count_by_class(WORDS, answers, [[t] for t in true])
    f1 = {}
    for row in rows:
        assert row.examples == true.count(row.label)
        assert row.answered == [a.scored for a in answers].count(row.label)
        assert row.right == sum(a.scored == t == row.label for a, t in pairs)
        if row.examples or row.answered:
            f1[row.label] = 2 * row.right / (row.examples + row.answered)
            assert row.f1 == pytest.approx(f1[row.label])
    assert [r.label for r in rows] == WORDS
    assert macro_f1 == pytest.approx(sum(f1.values()) / len(f1))
    # Wrong answers that are no label are in no class, and none of them is right.
    assert sum(r.answered for r in rows) == sum(a.is_valid for a in answers)
    assert sum(r.right for r in rows) == item_scores("accuracy", [a.scored for a in answers], [[t] for t in true]).sum()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a backbone that writes: one step teaches it no label word."""
    root = tmp_path_factory.mktemp("writer")
    backbone = save_backbone("t5", root / "t5")
    # Unequal classes, and label words of several tokens, so that answers are written out.
    rows = [{"text": f"film {n}", "label": "utterly splendid" if n % 3 else "rather dull"} for n in range(90)]
    (root / "films.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = RunConfig(
        backbone=str(backbone),
        data=str(root / "films.jsonl"),
        text=("text",),
        label="label",
        scoring="generate",  # what it writes; its likeliest label would always be one
        method="lora",
        max_steps=1,
        batch_size=4,
        dtype="float32",
    )
    return tune(config, root / "run")


def test_an_answer_that_is_no_label_is_kept_and_counted(run):
    result, predictions = run.result, run_dir.read_predictions(run.folder)
    others = [p for p in predictions if p.prediction not in {"utterly splendid", "rather dull"}]
    assert result.num_other_answers == len(others) > 0
    assert any(p.prediction for p in others)
    assert all(p.score == 0 for p in others)


def test_a_run_tells_macro_f1_and_the_counts_of_each_class(run):
    result, predictions = run.result, run_dir.read_predictions(run.folder)
    for row in result.class_counts:
        assert row.examples == sum(p.references == row.label for p in predictions)
        assert row.right == sum(p.references == row.label and p.score == 1 for p in predictions)
    assert result.macro_f1 == pytest.approx(sum(row.f1 for row in result.class_counts) / 2)
    assert result.majority_baseline == max(row.examples for row in result.class_counts) / result.num_examples


def test_a_record_whose_counts_contradict_its_score_is_refused():
    count = {"answered": 2, "f1": 0.5}
    counts = [
        {**count, "label": "bad", "examples": 1, "right": 1},
        {**count, "label": "good", "examples": 3, "right": 2},
    ]
    assert result_record(class_counts=counts, num_examples=4).class_counts[1].right == 2
    with pytest.raises(ValueError, match="not the share of right answers"):
        result_record(class_counts=[{**counts[0], "right": 0}, counts[1]], num_examples=4)
    with pytest.raises(ValueError, match="not of 5 examples"):
        result_record(class_counts=counts, num_examples=5)


TASK = """
name: notes
category: summarization
source: {files: {train: notes.csv}}
columns: [text]
target: summary
template: "{text} Summary: {target}"
"""


def test_a_task_file_says_how_words_are_found():
    assert parse_task(TASK + "metric: f1", "a test").tokenizer == "auto"
    assert parse_task(TASK + "metric: rouge-l\ntokenizer: unicode", "a test").tokenizer == "unicode"
    with pytest.raises(ApetError, match=r"tokenizer: .*'auto', 'english' or 'unicode'"):
        parse_task(TASK + "metric: f1\ntokenizer: icu", "a test")
    labels = TASK.replace("{target}", "{target}") + "metric: accuracy\nlabels: {a: a, b: b}\ntokenizer: unicode"
    with pytest.raises(ApetError, match="metric accuracy compares none"):
        parse_task(labels, "a test")


def test_the_tokenizer_that_is_asked_for_cuts_the_words():
    # English rules drop articles (F1) and stem (ROUGE-L); Unicode's words are kept as they are.
    for metric, one, other in (("f1", "the cat", "cat"), ("rouge-l", "cats", "cat")):
        score = {t: item_scores(metric, [one], [[other]], t).item() for t in ("auto", "english", "unicode")}
        assert score["auto"] == score["english"] == 1 > score["unicode"]
    for metric in ("f1", "rouge-l"):
        score = {
            t: item_scores(metric, ["这部电影很好看"], [["这部电影很无聊"]], t).item()
            for t in ("auto", "english", "unicode")
        }
        assert 0 < score["auto"] == score["unicode"] < 1
        assert score["english"] == 0
