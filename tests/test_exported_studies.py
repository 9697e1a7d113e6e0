"""What a study exported says the same as the study; parts of one study, wherever they ran, get one report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import apet
from apet import ApetError
from apet.studies.export import FACTS, FORMATS, ITEM_SCORES, export, read_export
from apet.studies.results import Study
from apet.studies.tables import StudyTables, merged
from stored_parts import write_part


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    here = tmp_path_factory.mktemp("parts")
    return [write_part(here / name, name, size) for name, size in (("small", 1_000_000), ("large", 30_000_000))]


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    return write_part(tmp_path_factory.mktemp("moved") / "small", "small", 1_000_000, moved=True)


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_exported_is_read_back_to_the_last_bit(moved, tmp_path, form):
    export(Study(moved), tmp_path, form)
    stored, read = StudyTables.of(Study(moved)), read_export(tmp_path)
    assert len(stored.transfers) == 6
    for name in ("runs", "curves", "transfers", "planned"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(stored, name), check_exact=True)
    assert {k: v.tolist() for k, v in read.items.items()} == {k: v.tolist() for k, v in stored.items.items()}
    assert read.facts == stored.facts


def test_a_report_of_the_export_has_the_numbers_of_the_studys_report(parts, tmp_path):
    export(Study(parts[0]), tmp_path / "export", "csv.gz")
    reports = [apet.report(parts[0], tmp_path / "a"), apet.report(tmp_path / "export", tmp_path / "b")]
    for name in sorted(p.name for p in reports[0].tables):
        first, second = ((r.folder / "tables" / name).read_text() for r in reports)
        assert first == second, name
    assert reports[0].findings == reports[1].findings
    assert apet.report(tmp_path / "export").folder == tmp_path / "export" / "report"


def test_parts_of_one_design_are_one_study(parts, tmp_path):
    export(Study(parts[1]), tmp_path / "large", "parquet")
    both = merged({"small": StudyTables.of(Study(parts[0])), "large": read_export(tmp_path / "large")})
    assert len(both.runs) == len(both.items) == 12
    facts = {name: both.facts[name] for name in ("name", "planned", "complete", "running")}
    assert facts == {"name": "planted", "planned": 12, "complete": 12, "running": False}
    assert both.planned is not None
    assert len(both.planned) == 12, "each planned run once, with the count of the part that ran it"
    assert both.planned["num_trainable"].notna().all()
    page = apet.report([parts[0], tmp_path / "large"], tmp_path / "report", require_complete=True).page.read_text()
    assert "small" in page
    assert "Partial" not in page


def test_a_design_that_grew_between_two_parts_plans_each_run_once(parts):
    small, large = (StudyTables.of(Study(p)) for p in parts)
    more = large.planned.assign(seed=large.planned["seed"] + 2)
    grown = replace(large, planned=pd.concat([large.planned, more], ignore_index=True))
    facts = merged({"small": small, "large": grown}).facts
    assert (facts["planned"], facts["complete"], facts["running"]) == (24, 12, True)


def test_counts_that_no_part_knows_stay_as_many_as_were_planned(parts):
    small = StudyTables.of(Study(parts[0]))
    unknown = pd.DataFrame(
        {"backbone": "huge", "task": "films", "method": "lora", "num_trainable": np.nan, "seed": 0}, index=range(3)
    )
    both = [replace(small, planned=pd.concat([small.planned, unknown], ignore_index=True)) for _ in range(2)]
    assert merged({"first": both[0], "again": both[1]}).facts["planned"] == 12 + 3


def test_a_run_that_two_parts_hold_counts_once(parts):
    small = StudyTables.of(Study(parts[0]))
    both = merged({"first": small, "again": small})
    assert (len(both.runs), len(both.curves)) == (len(small.runs), len(small.curves))
    assert both.facts["complete"] == 6


def test_items_of_a_split_that_is_not_reported_are_left_out(tmp_path, parts):
    untested = write_part(tmp_path / "untested", "large", 30_000_000, tested=False)
    both = merged({"tested": StudyTables.of(Study(parts[0])), "untested": StudyTables.of(Study(untested))})
    assert set(both.items) == set(Study(untested).items()), "validation is reported, and these alone are of it"


def test_several_parts_need_a_place_for_their_report(parts):
    with pytest.raises(ApetError, match="one report of 2 folders belongs into none of them; give an output folder"):
        apet.report(parts)


def test_a_folder_of_studies_and_a_run_are_told_from_a_study(parts):
    with pytest.raises(ApetError, match=r"holds studies and is none; give them: .*/\*, or .*/large"):
        apet.report(parts[0].parent)
    run = next((parts[0] / "runs").iterdir())
    with pytest.raises(ApetError, match="is one run and no study; apet report shows it alone"):
        apet.report([run, parts[1]], parts[0].parent / "both")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("runs.csv.gz", b"not gzip", "cannot be read"),
        ("runs.csv.gz", b"", "cannot be read"),
        (ITEM_SCORES, b"not zip", "cannot be read"),
        (FACTS, b"[]", "does not hold the facts of a study"),
        (FACTS, b"{}", "does not hold the facts of a study"),
        (FACTS, b"{", "cannot be read"),
    ],
)
def test_a_damaged_export_is_one_line(parts, tmp_path, file, content, said):
    export(Study(parts[0]), tmp_path, "csv.gz")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ApetError, match=said):
        apet.report(tmp_path, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_export_without_a_column_says_which(parts, tmp_path):
    export(Study(parts[0]), tmp_path, "csv")
    path = tmp_path / "runs.csv"
    pd.read_csv(path).drop(columns="score").to_csv(path, index=False)
    with pytest.raises(ApetError, match=r"has no column 'score'; export the study again"):
        apet.report(tmp_path)


def test_the_facts_of_an_export_name_its_settings(parts, tmp_path):
    export(Study(parts[0]), tmp_path, "csv")
    assert "methods: [fine-tuning, bitfit, apet-discrete]" in json.loads((tmp_path / FACTS).read_text())["settings"]
    with np.load(tmp_path / ITEM_SCORES) as stored:
        assert {stored[name].dtype for name in stored.files} == {np.dtype("uint8")}, "right or wrong, a byte an item"
