"""Real rows of the eleven datasets, saved again the ways people save them: read as they were, or refused with a reason.

What was written is known, so that what is read is held against it, row by row.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from apet.errors import ApetError
from apet.tasks.sources import TaskData, load_data
from apet.tasks.task import load_task
from apet.training.config import RunConfig
from apet.training.run import tune
from tiny_backbones import SHARED, save_backbone

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real subsets are not at hand")

Rows = list[dict[str, object]]
NUM_TRAIN, NUM_VALIDATION = 240, 80


def rows_of(task: str, split: str) -> Rows:
    """Rows of a subset as they were handed out, without twins between the splits."""
    folder = SHARED / task.replace("-", "_")
    columns = load_task(task).columns

    def read(name: str, limit: int) -> Rows:
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as f:
            return [json.loads(line) for line, _ in zip(f, range(limit), strict=False)]

    validation = read("validation", NUM_VALIDATION)
    if split == "validation":
        return validation
    held = {"\n".join(str(row[c]) for c in columns).strip().lower() for row in validation}
    train = read("train", NUM_TRAIN)
    return [row for row in train if "\n".join(str(row[c]) for c in columns).strip().lower() not in held]


def texts_and_labels(task: str, rows: Rows) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What a task must make of rows: its columns' texts, and the accepted answers."""
    t = load_task(task)
    found = []
    for row in rows:
        target = row[t.target]
        accepted = [str(a) for a in target] if isinstance(target, list) else [str(target)]
        texts = tuple(str(row[c]) for c in t.columns)
        found.append((texts, tuple(t.labels.get(a, a) for a in accepted)))
    return found


def read(task: str, place: Path, **source: str) -> TaskData:
    t = load_task(task)
    return load_data(t.model_copy(update={"source": t.source.model_copy(update=source)}), place)


def assert_same(task: str, data: TaskData, train: Rows, validation: Rows | None) -> None:
    expected = {"train": train} | ({"validation": validation} if validation is not None else {})
    for split, rows in expected.items():
        got = [(tuple(e.texts.values()), e.references) for e in data.splits[split]]
        # How many line ends a cell has at its end is not what a text says.
        strip = [(tuple(x.strip() for x in texts), answers) for texts, answers in got]
        assert strip == [(tuple(x.strip() for x in texts), a) for texts, a in texts_and_labels(task, rows)], split


def texts_of(data: TaskData) -> set[str]:
    return {" ".join(e.texts.values()).strip() for split in data.splits.values() for e in split}


def excel_csv(rows: Rows, place: Path) -> None:
    """Excel in Germany: semicolons, a byte-order mark, lines that end in CR LF."""
    pd.DataFrame(rows).to_csv(place, sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")


def utf16(rows: Rows, place: Path) -> None:
    """Excel's "Unicode text"."""
    pd.DataFrame(rows).to_csv(place, sep="\t", index=False, encoding="utf-16")


def pandas_csv(rows: Rows, place: Path) -> None:
    """pandas without index=False: a column without a name."""
    pd.DataFrame(rows).to_csv(place)


def csv_gz(rows: Rows, place: Path) -> None:
    pd.DataFrame(rows).to_csv(place, index=False)


def parquet(rows: Rows, place: Path) -> None:
    pd.DataFrame(rows).to_parquet(place, index=False)


def xlsx(rows: Rows, place: Path) -> None:
    pd.DataFrame(rows).to_excel(place, index=False)


def json_array(rows: Rows, place: Path) -> None:
    place.write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")


def jsonl_gz(rows: Rows, place: Path) -> None:
    with gzip.open(place, "wt", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def jsonl_bom(rows: Rows, place: Path) -> None:
    """With a byte-order mark, Windows line ends and an empty line at the end."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    place.write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\r\n")


READ: list[tuple[str, Callable[[Rows, Path], None], str, str]] = [
    ("sst2", excel_csv, "train.csv", "dev.csv"),
    ("imdb", excel_csv, "Train.csv", "Valid.csv"),
    ("rotten-tomatoes", utf16, "train.tsv", "val.tsv"),
    ("mnli", utf16, "mnli_train.csv", "mnli_dev.csv"),
    ("qnli", pandas_csv, "train.csv", "eval.csv"),
    ("rte", csv_gz, "train.csv.gz", "validation.csv.gz"),
    ("mrpc", parquet, "train.parquet", "validation.parquet"),
    ("nq-open", parquet, "train.parquet", "validation.parquet"),
    ("qqp", xlsx, "train.xlsx", "dev.xlsx"),
    ("samsum", json_array, "train.json", "val.json"),
    ("multi-news", jsonl_gz, "train.jsonl.gz", "val.jsonl.gz"),
    ("samsum", jsonl_bom, "train.jsonl", "dev.jsonl"),
    ("nq-open", json_array, "TRAIN.json", "DEV.json"),
]


@pytest.mark.parametrize(("task", "save", "train", "validation"), READ, ids=lambda x: getattr(x, "__name__", x))
def test_rows_are_read_as_they_were_saved(task, save, train, validation, tmp_path):
    rows = {train: rows_of(task, "train"), validation: rows_of(task, "validation")}
    for name, saved in rows.items():
        save(saved, tmp_path / name)
    data = read(task, tmp_path)
    assert_same(task, data, rows[train], rows[validation])


def test_a_code_page_is_read_as_it_was_saved_once_it_is_named(tmp_path):
    """cp1252 and its neighbours share most bytes: what is not certain is asked for, and never guessed in silence."""
    rows = [r | {"text": f"{r['text']} – “café” für Zoë"} for r in rows_of("rotten-tomatoes", "train")]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False, encoding="cp1252", errors="ignore")
    kept = [r | {"text": str(r["text"]).encode("cp1252", "ignore").decode("cp1252")} for r in rows]
    data = read("rotten-tomatoes", tmp_path / "train.csv", encoding="cp1252")
    assert texts_of(data) == {str(r["text"]).strip() for r in kept}
    # Without its name it is found by its bytes, which a note says, or asked for.
    try:
        notes, texts = (guessed := read("rotten-tomatoes", tmp_path / "train.csv")).notes, texts_of(guessed)
    except ApetError as e:
        notes, texts = (str(e),), texts_of(data)
    assert any("cp125" in note for note in notes), notes
    assert texts == texts_of(data)


def test_shards_are_one_split_and_a_missing_one_is_named(tmp_path):
    rows = rows_of("qqp", "train")
    for n in range(3):
        parquet(rows[n::3], tmp_path / f"train-{n:05}-of-00003.parquet")
    parquet(rows_of("qqp", "validation"), tmp_path / "validation-00000-of-00001.parquet")
    joined = [row for n in range(3) for row in rows[n::3]]
    assert_same("qqp", read("qqp", tmp_path), joined, rows_of("qqp", "validation"))
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(ApetError, match="00001-of-00003"):
        read("qqp", tmp_path)


def test_a_folder_that_datasets_saved_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    splits = {s: datasets.Dataset.from_list(rows_of("mrpc", s)) for s in ("train", "validation")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "mrpc"))
    assert_same("mrpc", read("mrpc", tmp_path / "mrpc"), rows_of("mrpc", "train"), rows_of("mrpc", "validation"))


@pytest.mark.parametrize("save", [parquet, json_array, excel_csv, xlsx], ids=lambda f: f.__name__)
def test_nulls_are_refused_with_their_rows_or_dropped_and_counted(save, tmp_path):
    rows = rows_of("sst2", "train")
    broken = [
        row | ({"sentence": None} if n in {3, 17} else {"label": None} if n == 40 else {}) for n, row in enumerate(rows)
    ]
    name = {parquet: "train.parquet", json_array: "train.json", excel_csv: "train.csv", xlsx: "train.xlsx"}[save]
    if save is not json_array:  # an integer column with a hole is one of integers, not of 1.0 and 0.0
        broken = pd.DataFrame(broken).astype({"label": "Int64"})
    save(broken, tmp_path / name)
    with pytest.raises(
        ApetError,
        match=r"(?=.*(4|5): 'sentence' is)(?=.*(18|19): 'sentence' is)(?=.*(41|42): 'label' is).*on_missing=drop",
    ):
        read("sst2", tmp_path / name)
    task = load_task("sst2").model_copy(update={"on_missing": "drop"})
    data = load_data(task, tmp_path / name)
    kept = {str(row["sentence"]).strip() for n, row in enumerate(rows) if n not in {3, 17, 40}}
    assert texts_of(data) == kept
    assert any("3 " in note and "left out" in note for note in data.notes), data.notes


def test_a_test_file_without_labels_is_left_out_and_said(tmp_path):
    """GLUE's: every label is -1."""
    parquet(rows_of("rte", "train"), tmp_path / "train.parquet")
    parquet(rows_of("rte", "validation"), tmp_path / "validation.parquet")
    parquet([r | {"label": -1} for r in rows_of("rte", "validation")], tmp_path / "test.parquet")
    data = read("rte", tmp_path)
    assert set(data.splits) == {"train", "validation"}
    assert any("test" in note for note in data.notes), data.notes


@pytest.mark.parametrize(
    ("task", "save", "train", "text"),
    [
        ("sst2", excel_csv, "train.csv", ("sentence",)),
        ("mrpc", utf16, "train.tsv", ("sentence1", "sentence2")),
        ("rotten-tomatoes", json_array, "train.json", ("text",)),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_saved_files_train_with_flags_alone(task, save, train, text, tmp_path):
    save(rows_of(task, "train"), tmp_path / train)
    backbone = save_backbone("bert-head", tmp_path / "bert")
    config = RunConfig(
        backbone=str(backbone), data=str(tmp_path / train), text=text, label="label", method="lora", max_steps=2,
        batch_size=4, max_eval_samples=16,
    )  # fmt: skip
    result = tune(config).result
    assert {c.label for c in result.class_counts} == {"0", "1"}
    assert result.split_sizes["train"] > 100
