"""One definition of a record: the store's columns, the tables, the exports, the schema and the docs follow from it."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from apet import ApetError
from apet.analysis.frames import CURVES, RUNS
from apet.studies.export import export
from apet.studies.results import CURVE_TYPES, RUN_TYPES, Study
from apet.studies.store import Store
from apet.studies.store_schema import FILE, VERSION
from apet.training.config import RunAxes
from apet.training.result import (
    CurvePoint,
    Prediction,
    RunResult,
    TransferRecord,
    columns,
    read_result,
    scalar_columns,
    schema_markdown,
)
from run_records import result_record, write_run_folder

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def stored(tmp_path):
    """A study of two finished runs and a failed one."""
    store = Store(tmp_path, create=True)
    for n, run_id in enumerate(["a" * 16, "b" * 16]):
        record = result_record(run_id=run_id, num_trainable=53152 + n, test_num_examples=None if n else 7, seed=n)
        write_run_folder(store.run_folder(run_id), record)
        store.record_result(run_id, RunAxes("little", "films", "apet-discrete", "default", n))
    store.fail("c" * 16, RunAxes("little", "films", "lora", "64", 0), "out of memory")
    store.close()
    return tmp_path


def test_a_record_survives_its_way_through_a_file_and_the_store(stored):
    study = Study(stored)
    record = result_record(run_id="a" * 16, num_trainable=53152, test_num_examples=7)
    assert study.results()["a" * 16] == record
    assert read_result(study.run_folder("a" * 16) / "result.json") == record


def test_every_field_is_a_typed_column_of_the_store(stored):
    db = sqlite3.connect(stored / FILE)
    types = {name: kind for _, name, kind, *_ in db.execute("PRAGMA table_info(runs)")}
    expected = {"text": "TEXT", "integer": "INTEGER", "number": "REAL", "json": "TEXT"}
    for column in columns(RunResult):
        assert types[column.name] == expected[column.kind], column.name
    best = db.execute("SELECT backbone, num_trainable FROM runs WHERE score > 0.7 ORDER BY run_id").fetchall()
    assert best == [("little", 53152), ("little", 53153)], "a record is asked in SQL"


def test_tables_and_exports_have_the_fields_as_columns_and_counts_stay_whole(stored, tmp_path):
    runs = Study(stored).runs()
    assert tuple(runs.columns) == (*RUN_TYPES,)
    assert set(RUN_TYPES) == {c.name for c in scalar_columns(RunResult)} | {"state", "error", "outdated"}
    assert tuple(Study(stored).curves().columns) == (*CURVE_TYPES,) == ("run_id", *CurvePoint.model_fields)
    for column in scalar_columns(RunResult):
        if column.kind == "integer":
            assert runs[column.name].dtype == pd.Int64Dtype(), column.name
    failed = runs[runs.state == "failed"].iloc[0]
    assert (failed.error, failed.num_trainable is pd.NA, failed.budget) == ("out of memory", True, "64")
    paths = export(Study(stored), tmp_path / "csv", "csv")
    with paths[0].open() as f:
        rows = {row["run_id"]: row for row in csv.DictReader(f)}
    assert all(name.isascii() and name == name.lower().replace(" ", "_") for name in next(iter(rows.values())))
    assert rows["a" * 16]["num_trainable"] == "53152"
    assert rows["a" * 16]["test_num_examples"] == "7"
    assert rows["b" * 16]["test_num_examples"] == rows["c" * 16]["num_trainable"] == ""


def test_a_store_of_an_older_version_is_one_line(stored):
    db = sqlite3.connect(stored / FILE)
    db.execute("PRAGMA user_version = 1")
    db.close()
    with pytest.raises(
        ApetError, match=rf"written by an older apet \(store version 1, this one reads {VERSION}\); run the"
    ):
        Study(stored)


def test_every_field_says_what_it_is():
    for record in (RunResult, CurvePoint, Prediction, TransferRecord):
        for column in columns(record):
            assert column.description.endswith("."), column.name
            assert len(column.description) > 10, column.name


def test_the_analysis_takes_its_columns_from_the_record():
    assert set(RUNS) - {"state", "error", "split"} <= {c.name for c in scalar_columns(RunResult)}
    assert set(CURVES) == {"run_id", *CurvePoint.model_fields}
    assert RUNS["num_trainable"] == ("number", "Trainable parameters N, exact; a task head is not among them")


def test_the_page_about_results_is_the_one_that_the_record_writes():
    assert (DOCS / "results-schema.md").read_text("utf-8") == schema_markdown()


def test_the_json_schema_describes_every_field():
    schema = RunResult.model_json_schema()
    assert set(schema["properties"]) == set(RunResult.model_fields)
    assert schema["additionalProperties"] is False
    json.dumps(schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "score is None; input should be a valid number"),
        ({"score": 1.5, "ci_high": 1.6}, "accuracy is 1.5; it is a share, from 0 to 1"),
        ({"num_trainable": "64"}, "num_trainable is '64'; input should be a valid integer"),
        ({"head": "lost"}, "head is 'lost'; input should be 'none', 'trained' or 'frozen'"),
        ({"validation": {}}, "validation is {}; extra inputs are not permitted"),
    ],
)
def test_a_field_that_does_not_fit_is_named(tmp_path, change, message):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result_record().model_dump(mode="json") | change))
    with pytest.raises(ApetError) as error:
        read_result(path)
    assert message in str(error.value)


def test_a_field_that_is_missing_is_named(tmp_path):
    values = result_record().model_dump(mode="json")
    del values["ci_low"]
    (tmp_path / "result.json").write_text(json.dumps(values))
    with pytest.raises(ApetError, match="was written by another version of apet: it has no ci_low"):
        read_result(tmp_path / "result.json")


def test_a_number_that_is_none_is_never_written(tmp_path):
    record = result_record(steps_per_second=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_run_folder(tmp_path / "run", record)


def test_records_are_read_without_torch():
    code = "import sys, apet.training.result, apet.training.run_dir; sys.exit(any(m in sys.modules for m in "
    code += "('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
