"""What a reader of a score must not miss is said where it happens: while it trains, at its end, in the record."""

from __future__ import annotations

import json

import pytest

from apet.training.cautions import ChanceWatch, cautions, study_cautions
from apet.training.result import RunResult
from run_records import result_record
from test_cli import call
from tiny_backbones import reviews, save_backbone, write_csv

QUIET = {"head": "none", "num_head_parameters": 0, "num_truncated": {}, "score_untrained": 0.5}


def result(**changes: object) -> RunResult:
    return result_record(**{**QUIET, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": 0.75, "ci_low": 0.65, "ci_high": 0.85, "majority_baseline": 0.5}, None),
        (
            {"score": 0.30, "ci_low": 0.25, "ci_high": 0.35, "majority_baseline": 0.333},
            "below the majority class: accuracy 30.0 %, always answering the most frequent label 33.3 %",
        ),
        (
            {"score": 0.35, "ci_low": 0.30, "ci_high": 0.40, "majority_baseline": 0.333, "score_untrained": 0.1},
            "at chance: the interval [30.0, 40.0] % includes always answering the most frequent label, 33.3 %",
        ),
        (
            {"score": 0.60, "ci_low": 0.55, "ci_high": 0.65, "majority_baseline": 0.333, "score_untrained": 0.58},
            "no better than untrained: the interval [55.0, 65.0] % includes the score before the first step, 58.0 %",
        ),
        (
            {"score": 0.2, "ci_low": 0.1, "ci_high": 0.3, "majority_baseline": None, "score_untrained": 0.2},
            "no better than untrained: the interval [10.0, 30.0] %",
        ),
    ],
)
def test_a_score_that_cannot_be_told_from_guessing_is_said_to_be_so(changes, said):
    lines = cautions(result(**changes))
    assert len(lines) == (said is not None)
    assert said is None or lines[0].startswith(said)


def test_of_many_runs_each_kind_is_counted_and_named():
    good = result(score=0.75, ci_low=0.65, ci_high=0.85)
    chance = result(score=0.52, ci_low=0.4, ci_high=0.6, method="lora")
    cut = result(score=0.75, ci_low=0.65, ci_high=0.85, num_truncated={"train": 3}, task="news")
    assert study_cautions([good]) == []
    assert study_cautions([good, chance, cut]) == [
        "1 of 3 runs cannot be told from guessing or from the untrained model (lora on films)",
        "texts are truncated in 1 of 3 runs (news)",
    ]


def test_texts_that_were_cut_and_a_head_that_was_trained_are_counted():
    lines = cautions(
        result(
            num_truncated={"train": 500, "validation": 30},
            split_sizes={"train": 1000, "validation": 350},
            max_input_length=128,
            head="trained",
            num_head_parameters=66,
        )
    )
    assert lines[0].startswith(
        "530 of 1,350 texts are truncated at 128 tokens (500 of 1,000 train, 30 of 350 validation); max_input_length"
    )
    assert lines[1].startswith("a task head of 66 parameters is trained beside the 64 of the delta and counted apart")
    assert cautions(result(head="frozen", num_head_parameters=66)) == []


def test_half_way_it_is_said_once_that_nothing_is_learned_yet():
    said: list[str] = []
    watch = ChanceWatch(0.5, 5, said.append, "accuracy")
    for _ in range(5):
        watch.see(0.6, 0.45)
        if len(said) == 1:
            break
    assert said == [said[0]]
    assert "half way and still at chance (baseline 50.0 %)" in said[0]
    watch.see(0.6, 0.45)
    assert len(said) == 1


@pytest.mark.parametrize("ci_low", [0.51, 0.9])
def test_a_run_that_learns_is_left_in_peace(ci_low):
    said: list[str] = []
    watch = ChanceWatch(None, 5, said.append, "accuracy")
    watch.see(0.5, 0.45)  # the untrained model, which stands for guessing where answers are written
    for _ in range(4):
        watch.see(ci_low, ci_low)
    assert said == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cautions")
    save_backbone("bert-head", folder / "bert")
    rows = reviews(24)
    write_csv(folder / "train.csv", [{**row, "text": f"{row['text']} " * 6} for row in rows])
    return folder


WORDS = ("--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars", "dtype=float32")


def test_tune_says_it_before_half_way_and_at_the_end_and_records_it(folder, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(folder / "cache"))
    words = ("--method", "bitfit", "learning_rate=1e-9", "max_input_length=8", "eval_steps=1")
    done = call(folder, "tune", *WORDS, *words, "--max-steps", "4", "--output", "run", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    said = done.err.splitlines()
    for line in record["cautions"]:
        assert f"caution: {line}" in said
    at_chance, truncated, head = record["cautions"]
    assert at_chance.split(":")[0] in ("at chance", "below the majority class")
    assert truncated.startswith("24 of 24 texts are truncated at 8 tokens")
    assert head.startswith("a task head of ")
    assert any(line.startswith("caution: half way and still at chance") for line in said)
    assert said.index(truncated) < next(i for i, line in enumerate(said) if "half way" in line)
    quiet = call(folder, "tune", *WORDS, *words, "--max-steps", "1", "--output", "quiet", "--quiet")
    assert "half way" not in quiet.err
    assert "caution: 24 of 24 texts" in quiet.err

    predicted = call(folder, "predict", "run", "a warm film " * 9, "dull")
    assert f"caution: {at_chance}" in predicted.err
    assert "caution: 1 of 2 texts are truncated at 8 tokens" in predicted.err
    assert "caution" not in predicted.out


def test_compare_says_that_methods_which_are_all_at_chance_compare_nothing(folder, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(folder / "cache"))
    done = call(
        folder, "compare", *WORDS, "--methods", "bitfit,lora", "learning_rate=1e-9", "max_input_length=8",
        "--max-steps", "1", "--output", "study", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(json.loads(done.out)) == 2
    (line,) = [x for x in done.err.splitlines() if x.startswith("caution: every method is")]
    assert "so that this compares nothing" in line
    assert "caution: 24 of 24 texts are truncated at 8 tokens" in done.err
