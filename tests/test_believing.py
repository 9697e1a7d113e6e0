"""Nothing is believed because it parses: what a study takes in and reads back is what its runs wrote."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apet import ApetError
from apet.reporting.run import read as read_run_report
from apet.reporting.run import write_run_report
from apet.studies.held_store import open_store
from apet.studies.results import Study
from apet.studies.store import DamagedRunError, Store
from apet.studies.store_schema import FILE
from apet.studies.tables import facts
from apet.training.config import RunAxes
from apet.training.manifest import MANIFEST, check_manifest, looks_unchanged, write_manifest
from apet.training.result import TransferRecord
from run_records import result_record, write_run_folder

AXES = RunAxes("little", "films", "apet-discrete", "default", 0)
RUNS = [letter * 16 for letter in "abc"]


@pytest.fixture
def study(tmp_path):
    with open_store(tmp_path / "study") as store:
        for run_id in RUNS:
            write_run_folder(store.run_folder(run_id), result_record(run_id=run_id))
            store.record_result(run_id, AXES)
    return tmp_path / "study"


def sealed(folder, run_id):
    """As somebody who knows the manifest would leave a folder that they changed."""
    write_manifest(folder, run_id)


def change_json(name, **values):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return change


def drop(name):
    return lambda folder: (folder / name).unlink()


def replace(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


CHANGES = {
    "a score": change_json("result.json", score=0.5, ci_low=0.1, ci_high=0.9),
    "a score above one": change_json("result.json", score=7.0),
    "a score that is text": change_json("result.json", score="0.5"),
    "fewer examples": change_json("result.json", num_examples=1),
    "another run's record": change_json("result.json", run_id="f" * 16),
    "no predictions": drop("predictions.csv"),
    "no settings": drop("config.yaml"),
    "scores of the predictions": replace("predictions.csv", "0.75", "0.25"),
    "the curve": replace("curve.csv", "0.75", "0.74"),
}


@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize("what", CHANGES)
def test_a_folder_that_was_changed_is_not_taken_in(tmp_path, what, resealed):
    """Also where the manifest was made to fit: a record must agree with itself, its curve and its predictions."""
    with open_store(tmp_path / "study") as store:
        folder = store.run_folder(RUNS[0])
        write_run_folder(folder, result_record(run_id=RUNS[0]))
        CHANGES[what](folder)
        if resealed:
            sealed(folder, RUNS[0])
        with pytest.raises(DamagedRunError, match="is damaged"):
            store.record_result(RUNS[0], AXES)
        assert store.states() == {}


def test_the_folder_of_another_run_is_not_taken_in(tmp_path):
    with open_store(tmp_path / "study") as store:
        write_run_folder(store.run_folder(RUNS[0]), result_record(run_id=RUNS[0]))
        shutil.copytree(store.run_folder(RUNS[0]), store.run_folder(RUNS[1]))
        with pytest.raises(
            DamagedRunError, match=f"holds run {RUNS[0]}, not {RUNS[1]}: the folder was moved or copied"
        ):
            store.record_result(RUNS[1], AXES)


def test_a_manifest_tells_what_was_touched(study, tmp_path):
    folder = study / "runs" / RUNS[0]
    assert looks_unchanged(folder)
    check_manifest(folder, RUNS[0])
    shutil.copytree(study, tmp_path / "copy")
    assert looks_unchanged(tmp_path / "copy/runs" / RUNS[0]), "a copy is no change"
    (folder / "notes.txt").write_text("mine")
    check_manifest(folder)  # files of the user's own are no part of the run
    content = json.loads((folder / MANIFEST).read_text())
    for change in ({"run_id": "f" * 16}, {"files": {}}, {"files": {"result.json": {"bytes": math.inf, "sha256": ""}}}):
        (folder / MANIFEST).write_text(json.dumps(content | change))
        with pytest.raises(ApetError, match=f"{MANIFEST} cannot be read .it was changed after the run had ended"):
            check_manifest(folder)
    for damage in ("", "{", "[]", "null", '{"run_id": 1, "files": 2}', "[" * 5000):
        (folder / MANIFEST).write_text(damage)
        with pytest.raises(ApetError, match=f"{MANIFEST} cannot be read"):
            check_manifest(folder)


@pytest.mark.parametrize("what", [w for w in CHANGES if w not in ("another run's record", "no settings")])
def test_a_folder_that_was_changed_is_not_reported(tmp_path, what):
    """A report recomputes as a study does: a manifest that was made to fit is no reason to believe."""
    write_run_folder(tmp_path / "run", result_record(run_id=RUNS[0]))
    assert read_run_report(tmp_path / "run").result.score == result_record().score
    CHANGES[what](tmp_path / "run")
    sealed(tmp_path / "run", RUNS[0])
    with pytest.raises(ApetError, match=r"is damaged .*; run it again"):
        read_run_report(tmp_path / "run")


def cell(study, sql):
    with sqlite3.connect(study / FILE) as db:
        for trigger in ("finished_runs_stay", "finished_runs_are_kept"):
            db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        db.execute(sql)


@pytest.mark.parametrize(
    "column",
    ["score", "axes", "config", "host", "num_trainable", "state", "metric", "data_notes", "manifest", "digest"],
)
@pytest.mark.parametrize("value", ["'{'", "'[1]'", "7.5", "NULL", "x'00ff'", "'complete '"])
def test_a_damaged_cell_is_named_by_its_run_and_the_rest_stays_readable(study, column, value):
    """Damage inside a cell passes SQLite's own check, and was a traceback once."""
    try:
        cell(study, f"UPDATE runs SET {column} = {value} WHERE run_id = '{RUNS[1]}'")
    except sqlite3.IntegrityError:
        pytest.skip("SQLite itself refuses it")
    read = Study(study)
    assert list(read.damaged) == [RUNS[1]]
    assert list(read.runs().run_id) == [RUNS[0], RUNS[2]]
    assert facts(read)["complete"] == 2


def test_a_damaged_curve_is_that_of_its_run(study):
    cell(study, f"UPDATE curves SET score = 0.99 WHERE run_id = '{RUNS[2]}'")
    assert list(Study(study).damaged) == [RUNS[2]]


def test_a_file_of_others_is_no_record(tmp_path):
    for name, sql in (("mine", "CREATE TABLE mine (x)"), ("runs", "CREATE TABLE runs (run_id)")):
        (tmp_path / name).mkdir()
        with sqlite3.connect(tmp_path / name / FILE) as db:
            db.execute(sql)
        before = (tmp_path / name / FILE).read_bytes()
        with pytest.raises(ApetError, match="is no record of apet"):
            Study(tmp_path / name)
        with pytest.raises(ApetError, match="is no record of apet"), open_store(tmp_path / name):
            pass
        assert (tmp_path / name / FILE).read_bytes() == before


def test_a_record_without_its_version_is_damaged_not_empty(study):
    cell(study, "PRAGMA user_version = 0")
    with pytest.raises(ApetError, match=r"is damaged \(its version is gone\); move it away and run again"):
        Study(study)


@pytest.mark.parametrize("note", ["{", "[]", "name: [", "a: 1\na: 2", "[" * 5000, "backbones: 3"])
def test_a_damaged_definition_is_one_line(study, note):
    with open_store(study) as store:
        store.describe("s", note, 3)
    with pytest.raises(ApetError, match=r"the definition of the study in .* is damaged"):
        Study(study).planned()


@pytest.mark.parametrize("number", ["", "many", "1e3", "-1", "٣", "9" * 5000])
def test_a_damaged_number_of_runs_is_not_believed(study, number):
    with open_store(study) as store:
        store.note("planned", number)
    assert facts(Study(study))["planned"] == 3


@pytest.mark.parametrize("cells", ["ci_low = x''", "seconds = '[1]'", "score = 0.99", "step = 'many'"])
def test_a_curve_of_a_damaged_run_is_left_out(study, cells):
    """It would be drawn beside the others, or be a traceback where it is no number."""
    cell(study, f"UPDATE curves SET {cells} WHERE run_id = '{RUNS[2]}' AND step = 20")
    read = Study(study)
    assert list(read.damaged) == [RUNS[2]]
    assert set(read.curves().run_id) == set(RUNS[:2])


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("DELETE FROM runs WHERE run_id = '{0}'", "its row is gone"),
        ("UPDATE runs SET digest = '' WHERE run_id = '{0}'", "its row was changed"),
        ("UPDATE transfers SET score = 0.99 WHERE run_id = '{0}'", "its transfer to 'shops' was changed"),
        ("UPDATE transfers SET score = x'00' WHERE run_id = '{0}'", "its transfer to 'shops' was changed"),
    ],
)
def test_transfers_and_curves_of_a_run_that_cannot_be_believed_are_left_out(study, sql, why):
    with open_store(study) as store:
        for run_id in RUNS:
            transfer = TransferRecord(
                target="shops", score=0.5, ci_low=0.4, ci_high=0.6, num_examples=9, majority_baseline=0.5
            )
            store.record_transfer(run_id, transfer)
    cell(study, sql.format(RUNS[1]))
    read = Study(study)
    assert read.damaged == {RUNS[1]: why}
    assert list(read.transfers().run_id) == [RUNS[0], RUNS[2]]
    if "transfers" not in sql:
        assert set(read.curves().run_id) == {RUNS[0], RUNS[2]}


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE runs RENAME COLUMN config TO settings",
        "ALTER TABLE curves DROP COLUMN seconds",
        "ALTER TABLE runs ADD COLUMN mine",
        "ALTER TABLE transfers RENAME TO moves",
        "DROP TABLE notes",
    ],
)
def test_a_record_whose_tables_were_changed_is_damaged(study, sql):
    cell(study, sql)
    with pytest.raises(ApetError, match="is damaged \\(its tables were changed\\); move it away and run again"):
        Study(study)


def test_reading_leaves_nothing_beside_a_record_whole_or_damaged(study):
    """SQLite makes two files of its own while it reads, and a connection that may only read leaves them there."""
    before = {f.name: f.read_bytes() for f in study.iterdir() if f.is_file()}
    Study(study)
    assert {f.name: f.read_bytes() for f in study.iterdir() if f.is_file()} == before
    with closing(sqlite3.connect(study / FILE)) as db:
        db.execute("PRAGMA user_version = 99")
    before = {f.name: f.read_bytes() for f in study.iterdir() if f.is_file()}
    with pytest.raises(ApetError, match="newer apet"):
        Study(study)
    assert {f.name: f.read_bytes() for f in study.iterdir() if f.is_file()} == before


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_with_any_byte_changed_gives_true_numbers_or_one_line(study, tmp_path_factory, place, change):
    damaged = tmp_path_factory.mktemp("damaged")
    raw = bytearray((study / FILE).read_bytes())
    raw[place % len(raw)] ^= change
    (damaged / FILE).write_bytes(raw)
    try:
        runs = Study(damaged).runs()
    except ApetError:
        return
    assert set(runs.score) <= {result_record().score}
    assert set(runs.run_id) <= set(RUNS)


def test_the_store_says_who_is_writing(study):
    with open_store(study), pytest.raises(ApetError, match="another apet is running the study"), open_store(study):
        pass
    Store(study).close()


@pytest.mark.parametrize("name", [FILE, "runs"])
def test_a_study_whose_parts_lead_elsewhere_is_not_written(study, tmp_path, name):
    """What a study removes or moves must lie in its own folder."""
    (study / name).rename(tmp_path / "elsewhere")
    (study / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ApetError, match=r"is a link, .* give the folder where it leads"), open_store(study):
        pass
    assert len(Study(study).runs()) == len(RUNS), "reading follows it"


def test_a_run_that_is_a_link_is_not_taken_in(study, tmp_path):
    with open_store(tmp_path / "other") as store:
        store.run_folder(RUNS[0]).symlink_to(study / "runs" / RUNS[0])
        with pytest.raises(DamagedRunError, match="it is a link"):
            store.record_result(RUNS[0], AXES)
        moved = store.quarantine(RUNS[0])
        assert moved.is_symlink()
    assert (study / "runs" / RUNS[0] / "result.json").is_file()


def test_a_report_touches_nothing_that_lies_beside_it(study, tmp_path):
    """Folders called report.part and report.old were removed, whosever they were."""
    run = study / "runs" / RUNS[0]
    for name in ("report.part", "report.old"):
        (run / name).mkdir()
        (run / name / "notes.txt").write_text("mine")
    for _ in range(2):
        write_run_report(run)
    assert {p.name for p in run.iterdir() if p.is_dir()} == {"report", "report.part", "report.old"}
    assert (run / "report.part/notes.txt").read_text() == (run / "report.old/notes.txt").read_text() == "mine"
    shutil.move(run / "report", tmp_path / "report")
    (run / "report").symlink_to(tmp_path / "report")
    with pytest.raises(ApetError, match="is a link; give the folder where it leads"):
        write_run_report(run)
