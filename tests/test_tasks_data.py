"""Rows to examples: what fits is read alike from every format, what does not is named with its file and line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apet import ApetError
from apet.tasks.examples import hold_out, sample
from apet.tasks.files import read_table
from apet.tasks.from_file import task_from_file
from apet.tasks.sources import load_data
from apet.tasks.task import load_task, parse_task, registered_tasks
from tiny_backbones import reviews, write_csv, write_jsonl

TASK = """
name: films
category: sentiment
source: {files: {train: train.jsonl, validation: validation.jsonl}}
columns: [text]
target: stars
template: "{text} Sentiment: {target}"
labels: {negative: negative, positive: positive}
"""


def folder_with(tmp_path, train, validation):
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "validation.jsonl", validation)
    (tmp_path / "films.yaml").write_text(TASK)
    return load_task(str(tmp_path / "films.yaml"))


def test_every_format_gives_the_same_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [*reviews(7), {"text": 'quoted "words", commas,\nand a second line', "stars": "negative"}]
    write_csv(tmp_path / "a.csv", rows)
    write_jsonl(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [[r.values for r in read_table(tmp_path / f"a.{s}").rows] for s in ("csv", "jsonl", "parquet")] == [rows] * 3


def test_lines_are_those_of_an_editor(tmp_path):
    (tmp_path / "a.csv").write_text('text,stars\n"two\nlines",negative\n\nnext,positive\n')
    assert [r.location for r in read_table(tmp_path / "a.csv").rows] == ["a.csv:2", "a.csv:5"]
    (tmp_path / "b.jsonl").write_text('{"text": "a\\u2028b"}\n\n{"text": "\x85"}\n', "utf-8")
    assert [r.location for r in read_table(tmp_path / "b.jsonl").rows] == ["b.jsonl:1", "b.jsonl:3"]


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", b'{"text": 1}\n{oops\n', r"a\.jsonl:2: no JSON \("),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl:2: a list; expected a JSON object"),
        ("a.csv", b"text,stars\nx\n", r"a\.csv:2: 1 cells; the header has 2"),
        ("a.csv", b'text,stars\n"open,x\n', r"a\.csv:2: .*quote cells"),
        ("a.csv", b"text,stars\n", r"a\.csv' has no rows"),
        ("a.csv", b"", r"a\.csv' has no rows"),
        ("a.csv", b"text\nd\x81\x00\xff\xfe vu\n", r"a\.csv:2: byte 0x81 is no UTF-8, and no other encoding fits"),
        ("a.txt", b"x", r"ends in \.txt; known endings: \.csv"),
        ("a.parquet", b"PAR1 not really", r"a\.parquet is no Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, name, raw, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ApetError, match=message):
        read_table(tmp_path / name)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ApetError, match=r"cannot read data file .*none\.csv': No such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"txt": "x", "stars": "positive"}, r"train\.jsonl:3: unknown column 'text'; nearest: txt"),
        (
            {"text": "x", "stars": "great"},
            r"train\.jsonl:3: label 'great' is unknown; films has 'negative', 'positive'",
        ),
        (
            {"text": "x", "stars": None},
            r"train\.jsonl:3: 'stars' is missing; mend it, or leave such rows out: on_missing=drop",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, bad, message):
    task = folder_with(tmp_path, [*reviews(2), bad], reviews(2, 10))
    with pytest.raises(ApetError, match=message):
        load_data(task)


def test_ids_may_repeat_and_that_is_said(tmp_path):
    rows = [{"id": i // 2, **r} for i, r in enumerate(reviews(4))]
    task = folder_with(tmp_path, rows, reviews(2, 10))
    assert "train: 2 ids come more than once; rows are told apart by their text" in load_data(task).notes


def test_training_text_that_is_held_out_is_refused_or_dropped(tmp_path):
    twin = {"text": "  A  FINE film , scene 0 ", "stars": "positive"}
    held = [{"text": "a fine film , scene 0", "stars": "positive"}]
    task = folder_with(tmp_path, [*reviews(1), twin, reviews(3)[2]], held)
    with pytest.raises(ApetError, match=r"train\.jsonl:2: the same text is held out at validation\.jsonl:1 \(1 such\)"):
        load_data(task)
    data = load_data(task.model_copy(update={"on_overlap": "drop"}))
    assert len(data.splits["train"]) == 2
    assert any("1 examples left out" in note for note in data.notes)


def test_a_split_left_empty_is_an_error(tmp_path):
    task = folder_with(tmp_path, reviews(2), reviews(2)).model_copy(update={"on_overlap": "drop"})
    with pytest.raises(ApetError, match="split 'train' is empty"):
        load_data(task)


def test_without_validation_some_training_rows_are_held_out_and_stay_so_when_rows_move(tmp_path):
    rows = reviews(60)
    a = load_data(task_from_file(str(write_csv(tmp_path / "a.csv", rows)), ["text"], "stars"))
    b = load_data(task_from_file(str(write_csv(tmp_path / "b.csv", rows[::-1])), ["text"], "stars"))
    held = [{e.texts["text"] for e in d.splits["validation"]} for d in (a, b)]
    assert held[0] == held[1]
    assert len(held[0]) == 30, "half of sixty: 30 of each class, where there are twice as many"
    assert not held[0] & {e.texts["text"] for e in a.splits["train"]}


def test_a_label_unseen_in_training_is_named(tmp_path):
    write_csv(tmp_path / "train.csv", reviews(4))
    write_csv(tmp_path / "validation.csv", [{"text": "new", "stars": "neutral"}])
    task = task_from_file(str(tmp_path), ["text"], "stars")
    with pytest.raises(
        ApetError, match=r"validation\.csv:2: label 'neutral' is unknown; .* has 'negative', 'positive'"
    ):
        load_data(task)


def test_a_column_of_free_text_is_no_label(tmp_path):
    path = write_csv(tmp_path / "a.csv", reviews(40))
    with pytest.raises(ApetError, match="column 'text' has 40 different values in 40 rows; labels are few"):
        task_from_file(str(path), ["stars"], "text")


def test_one_label_alone_is_nothing_to_learn(tmp_path):
    path = write_csv(tmp_path / "a.csv", reviews(40)[::2])
    with pytest.raises(ApetError, match="column 'stars' has one value, 'negative', in 20 rows"):
        task_from_file(str(path), ["text"], "stars")


def test_offline_without_a_cached_copy_says_how_to_point_at_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(ApetError, match=r"task 'sst2': nyu-mll/glue is neither in the cache .*data=FOLDER"):
        load_data(load_task("sst2"))


@given(st.lists(st.text(), min_size=2, max_size=30), st.integers(1, 10))
def test_a_sample_is_the_same_whatever_the_order(texts, most):
    from apet.tasks.examples import Example

    examples = [Example({"text": t}, ("x",), "") for t in texts]
    keys = {e.normalized_text for e in sample(examples, most)}
    assert len(sample(examples, most)) == min(most, len(examples))
    unique = [Example({"text": k}, ("x",), "") for k in {e.normalized_text for e in examples}]
    assert {e.normalized_text for e in sample(unique, len(keys))} == {
        e.normalized_text for e in sample(unique[::-1], len(keys))
    }
    inside, outside = hold_out(registered_tasks()["samsum"], examples)
    assert len(inside) + len(outside) == len(examples)
    assert not {e.normalized_text for e in inside} & {e.normalized_text for e in outside}


@pytest.mark.parametrize("name", registered_tasks())
def test_every_task_that_ships_is_complete(name):
    t = registered_tasks()[name]
    assert t.description
    assert t.category != "classification"
    assert not t.transfer_labels or set(t.transfer_labels) == set(t.label_words)
    if t.source.generator:
        assert t.max_input_length == 96
    else:
        assert t.max_input_length == (128 if t.category == "sentiment" else 256)  # paper appendix A


def test_the_eleven_tasks_of_the_paper_are_there():
    eleven = {
        "sst2",
        "imdb",
        "rotten-tomatoes",
        "mnli",
        "qnli",
        "rte",
        "mrpc",
        "qqp",
        "nq-open",
        "samsum",
        "multi-news",
    }
    assert eleven <= set(registered_tasks())
    by_category = {
        c: [t for t in eleven if registered_tasks()[t].category == c] for c in ("sentiment", "inference", "paraphrase")
    }
    assert {c: len(v) for c, v in by_category.items()} == {"sentiment": 3, "inference": 3, "paraphrase": 2}
    assert {n: registered_tasks()[n].learning_rate for n in eleven if registered_tasks()[n].learning_rate} == {
        "rte": 5e-5
    }
    assert [
        n for n in eleven if registered_tasks()[n].is_classification and not registered_tasks()[n].transfer_labels
    ] == []


def test_with_the_words_of_transfer_all_tasks_answer_alike():
    by_name = {n: registered_tasks()[n].with_transfer_words() for n in ("sst2", "mnli", "qqp")}
    assert {frozenset(t.label_words) for t in by_name.values()} == {frozenset({"no", "yes"})}
    assert by_name["sst2"].labels == {"0": "no", "1": "yes"}
    assert by_name["mnli"].labels == {"0": "yes", "1": "no", "2": "no"}  # entailed, or not
    assert parse_task(by_name["mnli"].model_dump_json(), "again") == by_name["mnli"]
    with pytest.raises(ApetError, match="does not say which of its answers are no and yes"):
        registered_tasks()["samsum"].with_transfer_words()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lables": {}}, "unknown key 'lables'; nearest: labels"),
        ({"template": "{text}"}, r"must use each column once \(text\) and {target} last"),
        ({"template": "{target} {text}"}, "and {target} last"),
        ({"template": "{text} {target"}, "cannot be read"),
        ({"metric": "f1"}, "metric f1 is for text-generation tasks; for single-label give accuracy"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; nearest: accuracy.*; to add one, give its file"),
        ({"labels": {"a": "x", "b": "x"}}, "two labels have the same word"),
        ({"transfer_labels": {"negative": 2}}, "maps label words to 0 or 1"),
        ({"transfer_labels": {"bad": 0}}, r"\['bad'\] do not fit"),
        ({"source": {}}, "give one of hub, files and generator"),
        ({"category": "poetry"}, "category: input should be"),
        ({"max_input_length": 2}, "max_input_length"),
    ],
)
def test_a_wrong_key_in_a_task_file_is_named(change, message):
    import yaml

    with pytest.raises(ApetError, match="(?i)" + message):
        parse_task(yaml.safe_dump({**yaml.safe_load(TASK), **change}), "films.yaml")


def test_answers_may_be_lists_also_in_csv(tmp_path):
    qa = {"name": "qa", "category": "question-answering", "metric": "f1", "columns": ["question"], "target": "answer"}
    qa |= {"template": "{question} {target}", "source": {"files": {"train": str(tmp_path / "a.csv")}}}
    rows = [{"question": "who", "answer": json.dumps(["Ann", "Ann B."])}, {"question": "where", "answer": "there"}]
    write_csv(tmp_path / "a.csv", rows + [{"question": f"q{i}", "answer": "x"} for i in range(9)])
    data = load_data(parse_task(json.dumps(qa), "qa"))
    answers = {e.texts["question"]: e.references for rows in data.splits.values() for e in rows}
    assert answers["who"] == ("Ann", "Ann B.")
    assert answers["where"] == ("there",)
