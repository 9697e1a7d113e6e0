"""One's own data on the command line: the same options for every command, and no file to write."""

from __future__ import annotations

import inspect
import json
import os

import pytest

from apet.cli.own_data import OwnData
from test_cli import call
from tiny_backbones import reviews, save_backbone, write_csv

COMMANDS = ("tune", "compare", "thresholds", "study plan", "study run")
WORDS = ("--backbone", "mlm", "--data", "stars.csv", "--text", "text", "--label", "stars")
SHORT = ("--max-steps", "2", "dtype=float32", "--quiet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an encoder that fills in words, and reviews with labels that are none of its words."""
    folder = tmp_path_factory.mktemp("own")
    save_backbone("bert-mlm", folder / "mlm")
    rows = reviews(48)
    write_csv(folder / "stars.csv", [{**r, "stars": {"positive": "*****", "negative": "*"}[r["stars"]]} for r in rows])
    write_csv(folder / "words.csv", rows)
    write_csv(
        folder / "later.csv",
        [{**r, "stars": {"positive": "*****", "negative": "*"}[r["stars"]]} for r in reviews(6, 90)],
    )
    os.environ["APET_CACHE"] = str(folder / "cache")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_same_options(place, command):
    shown = "".join(call(place, *command.split(), "--help").out.split())
    for name in inspect.signature(OwnData).parameters:
        assert f"--{name.replace('_', '-')}" in shown


def test_labels_that_fill_no_blank_get_a_head_and_one_line_says_so(place):
    done = call(place, "tune", *WORDS, *SHORT, "--output", "head")
    assert done.code == 0, done.err
    told = [line for line in done.out.splitlines() if line.startswith("objective: classification-head, as label word")]
    assert len(told) == 1, done.out
    assert json.loads((place / "head/result.json").read_text())["objective"] == "classification-head"
    done = call(place, "tune", *WORDS, *SHORT, "--output", "asked", "objective=masked-label-word")
    assert done.code == 2
    assert "objective=classification-head" in done.err


def test_labels_that_are_words_fill_the_blank(place):
    words = [w.replace("stars.csv", "words.csv") for w in WORDS]
    done = call(place, "tune", *words, *SHORT, "--output", "words")
    assert "task type single-label; objective masked-label-word" in done.out
    assert "objective: " not in done.out


def test_a_test_file_is_measured_once_and_told(place):
    done = call(place, "tune", *WORDS, *SHORT, "--test", "later.csv", "--json", "--output", "tested")
    result = json.loads(done.out)
    assert result["test_num_examples"] == 6
    assert "test: later.csv" in result["data_notes"]
    other = call(place, "tune", *WORDS, *SHORT, "--json", "--output", "untested")
    assert json.loads(other.out)["run_id"] != result["run_id"]
    missing = call(place, "tune", *WORDS, *SHORT, "--test", "none.csv", "--output", "x")
    assert (missing.code, "none.csv" in missing.err) == (2, True)


def test_a_study_runs_on_ones_own_file(place):
    done = call(
        place, "study", "plan", "quick", *WORDS[2:], 'backbones=["mlm"]', "seeds=[0]", "dtype=float32", "--json"
    )
    assert done.code == 0, done.err
    assert {r["task"] for r in json.loads(done.out)["runs"]} == {"stars.csv"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tune", *WORDS[2:]), "--backbone is required beside --data"),
        (("tune", *WORDS[:4]), "it has the columns text, stars"),
        (("tune", *WORDS, "--metric", "f1"), "metric f1 is for text-generation tasks; for single-label give accuracy"),
        (("compare", *WORDS, "--metric", "accuracie"), "unknown metric 'accuracie'; nearest: accuracy"),
    ],
)
def test_what_is_missing_is_said_with_what_to_give(place, words, message):
    done = call(place, *words, "--quiet", "--output", "x")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
