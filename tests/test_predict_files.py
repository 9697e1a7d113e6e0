"""Answers to a file's rows: all of its columns stay, and each answer comes with its probability."""

from __future__ import annotations

import csv
import json
import os

import pandas as pd
import pytest

from test_cli import call
from test_task_types import rows_of
from tiny_backbones import reviews, save_backbone, write_csv, write_jsonl

NEW = [
    {"id": f"r{n}", "text": f'a {w} film , said "she"', "when": "2026-01-0" + str(n)}
    for n, w in enumerate(["fine", "dull"], 1)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    os.environ["APET_CACHE"] = str(folder / "cache")
    save_backbone("bert-head", folder / "bert")
    save_backbone("llama", folder / "llama")
    write_csv(folder / "train.csv", reviews(48))
    write_csv(folder / "new.csv", NEW)
    short = ("--max-steps", "2", "--quiet", "dtype=float32", "--method", "lora")
    labeled = ("--data", "train.csv", "--text", "text", "--label", "stars")
    for name, words in {
        "run": ("--backbone", "bert", *labeled),
        "likely": ("--backbone", "llama", *labeled),
        "written": ("--backbone", "llama", *labeled, "scoring=generate"),
    }.items():
        done = call(folder, "tune", *words, *short, "--output", name)
        assert done.code == 0, done.err
    for kind in ("multi-label", "token-classification", "regression"):
        write_jsonl(folder / f"{kind}.jsonl", rows_of(kind))
        words = ("--backbone", "bert", "--data", f"{kind}.jsonl", "--text", "text", "--label", "answer")
        assert call(folder, "tune", *words, *short, "--output", kind).code == 0
    return folder


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_dict("records")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return list(csv.DictReader(path.open(newline=""), delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("run", ["run", "likely"])
def test_all_columns_stay_and_every_label_has_its_probability(place, run, name):
    done = call(place, "predict", run, "--data", "new.csv", "--output", name)
    assert (done.code, done.out) == (0, f"{name}\n"), done.err
    rows = read(place / name)
    assert [{k: r[k] for k in NEW[0]} for r in rows] == NEW
    for row in rows:
        scores = row["scores"] if "scores" in row else {k[6:]: float(row[k]) for k in row if k.startswith("score_")}
        assert set(scores) == {"positive", "negative"}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert float(row["score"]) == max(scores.values()) == scores[row["prediction"]]


def test_the_screen_has_the_same_answers(place):
    asked = json.loads(call(place, "predict", "run", *(r["text"] for r in NEW), "--json").out)
    call(place, "predict", "run", "--data", "new.csv", "--output", "again.jsonl")
    filed = read(place / "again.jsonl")
    for a, b in zip(asked, filed, strict=True):
        assert (a["prediction"], a["scores"]) == (b["prediction"], pytest.approx(b["scores"], abs=1e-5))
    shown = call(place, "predict", "run", "--data", "new.csv")
    assert [line.split("\t")[0] for line in shown.out.splitlines()] == [r["prediction"] for r in filed]


def test_what_was_written_has_a_probability_of_its_own(place):
    (answer,) = json.loads(call(place, "predict", "written", "a fine film", "--json").out)
    assert 0 < answer["score"] <= 1
    assert "scores" not in answer


@pytest.mark.parametrize(
    ("run", "found"),
    [("multi-label", ["prediction", "scores"]), ("token-classification", ["prediction", "score"]),
     ("regression", ["prediction"])],
)  # fmt: skip
def test_other_types_have_the_answers_of_their_kind(place, run, found):
    done = call(place, "predict", run, "--data", f"{run}.jsonl", "--output", f"{run}-answers.jsonl")
    assert done.code == 0, done.err
    rows = read(place / f"{run}-answers.jsonl")
    given = rows_of(run)
    assert [list(r) for r in rows] == [[*given[0], *found]] * len(given)
    if run == "multi-label":
        assert all(set(r["scores"]) == {"dull", "fine"} for r in rows)
        assert all(r["prediction"] == [w for w in ("dull", "fine") if r["scores"][w] > 0.5] for r in rows)
    elif run == "regression":
        assert all(isinstance(r["prediction"], float) for r in rows)
    else:
        assert all(len(r["prediction"]) == len(r["text"]) for r in rows)
    assert call(place, "predict", run, "--data", f"{run}.jsonl", "--output", "flat.csv").code == 0
    assert len(read(place / "flat.csv")) == len(rows)


def test_a_column_called_score_stays_where_the_answer_is_a_number(place):
    """As data of text similarity have one."""
    rows = [{**row, "score": n} for n, row in enumerate(rows_of("regression")[:3])]
    write_csv(place / "scores.csv", [{k: str(v) for k, v in row.items()} for row in rows])
    done = call(place, "predict", "regression", "--data", "scores.csv", "--output", "scored-again.csv")
    assert done.code == 0, done.err
    assert [r["score"] for r in read(place / "scored-again.csv")] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "new.csv", "--output", "a.doc"), "ends in .doc; give .csv"),
        (("--data", "new.csv", "--output", "new.csv"), "is the file that is read"),
        (("--data", "new.csv", "--output", "none/a.csv"), "there is no folder 'none'"),
        (("--data", "gaps.csv", "--output", "a2.csv"), "gaps.csv:3: 'text' is empty"),
        (("--data", "other.csv", "--output", "a2.csv"), "unknown column 'text'; nearest: texts"),
        (("--data", "scored.csv", "--output", "a2.csv"), "a column 'prediction' already"),
        (("--data", "new.csv", "a text"), "texts and --data came together"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_written(place, words, message):
    write_csv(place / "gaps.csv", [*NEW[:1], {**NEW[1], "text": ""}])
    write_csv(place / "other.csv", [{"texts": "a"}, {"texts": "b"}])
    write_csv(place / "scored.csv", [{**r, "prediction": "x"} for r in NEW])
    before = (place / "new.csv").read_bytes()
    done = call(place, "predict", "run", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (place / "a2.csv").exists()
    assert not list(place.glob(".a*"))
    assert (place / "new.csv").read_bytes() == before
