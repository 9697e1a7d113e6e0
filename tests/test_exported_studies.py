"""What a study exported says the same as the study; parts of one study, wherever they ran, get one report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import apet
from apet import ApetError
from apet.studies.export import FACTS, FORMATS, ITEM_SCORES, export, read_export
from apet.studies.grid import cells
from apet.studies.held_store import open_store
from apet.studies.results import Study
from apet.studies.study_config import StudyConfig
from apet.studies.tables import StudyTables, merged
from apet.training.manifest import write_manifest
from apet.training.result import TransferRecord
from apet.training.run_dir import TEST_PREDICTIONS
from run_records import result_record, write_run_folder

METHODS = {"fine-tuning": 0.9, "bitfit": 0.7, "apet-discrete": 0.8}
DESIGN = """
name: planted
backbones: [small, large]
tasks: [films]
methods: [fine-tuning, bitfit, apet-discrete]
seeds: [0, 1]
"""
TRANSFER = TransferRecord(
    target="none", score=0.1 + 0.2, ci_low=0.2, ci_high=0.4, num_examples=10, majority_baseline=None
)
"""On a task of a name that CSV readers take for a missing value; a score with all its bits."""


def write_part(folder: Path, backbone: str, size: int, tested: bool = True, moved: bool = False) -> Path:
    """A scale's runs of the design, ten items a split, as if they had been trained."""
    with open_store(folder) as store:
        store.describe("planted", definition=DESIGN, planned=12)
        planned = [cell.config for cell in cells(StudyConfig.from_stored(DESIGN)) if cell.config.backbone == backbone]
        for config in planned:
            axes, method, score = config.axes, config.axes.method, METHODS[config.axes.method]
            number = [*METHODS].index(method)
            run_id = f"{size:08x}{number:04x}{axes.seed:04x}"
            tests = {"test_score": score, "test_ci_low": 0.1, "test_ci_high": 1.0, "test_num_examples": 10}
            record = result_record(
                    run_id=run_id, backbone=backbone, num_backbone_parameters=size, method=method,
 seed=axes.seed, config=config,
                    num_trainable=size if method == "fine-tuning" else 64 + number, score=score / 3, ci_low=0.0,
                    ci_high=1.0, num_examples=10, **(tests if tested else {}),
                )  # fmt: skip
            where = store.run_folder(run_id)
            write_run_folder(where, record)
            if tested:
                rows = [f"test:row {n},good,good,{float(n < 10 * score)}" for n in range(10)]
                (where / TEST_PREDICTIONS).write_text("\n".join(["location,prediction,references,score", *rows]) + "\n")
                write_manifest(where, run_id)
            store.record_result(run_id, axes)
            if moved:
                store.record_transfer(run_id, TRANSFER)
    return folder


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


def test_designs_of_their_own_add_up(parts):
    small, large = (StudyTables.of(Study(p)) for p in parts)
    facts = merged({"small": small, "large": replace(large, facts={**large.facts, "settings": "other"})}).facts
    assert (facts["planned"], facts["running"]) == (24, True)


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
    with pytest.raises(ApetError, match="one report of 2 folders belongs into none of them; give output"):
        apet.report(parts)


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
