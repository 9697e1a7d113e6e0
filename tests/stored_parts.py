"""Folders of studies whose runs nobody trained: two scales of one design, as parts that ran apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from apet.studies.grid import cells
from apet.studies.held_store import open_store
from apet.studies.study_config import StudyConfig
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


def write_part(
    folder: Path,
    backbone: str,
    size: int,
    tested: bool = True,
    moved: bool = False,
    seeds: Sequence[int] = (0, 1),
) -> Path:
    """A scale's runs of the design, ten items a split, as if they had been trained; called again, it adds seeds."""
    with open_store(folder) as store:
        store.describe("planted", definition=DESIGN, planned=12)
        for config in (cell.config for cell in cells(StudyConfig.from_stored(DESIGN))):
            axes = config.axes
            if axes.backbone != backbone or axes.seed not in seeds:
                continue
            number, score = [*METHODS].index(axes.method), METHODS[axes.method]
            run_id = f"{size:08x}{number:04x}{axes.seed:04x}"
            tests = {"test_score": score, "test_ci_low": 0.1, "test_ci_high": 1.0, "test_num_examples": 10}
            record = result_record(
                run_id=run_id,
                backbone=backbone,
                num_backbone_parameters=size,
                method=axes.method,
                seed=axes.seed,
                config=config,
                num_trainable=size if axes.method == "fine-tuning" else 64 + number,
                score=score / 3,
                ci_low=0.0,
                ci_high=1.0,
                num_examples=10,
                started=f"2026-11-01T00:{number:02d}:{30 * axes.seed:02d}+00:00",
                **(tests if tested else {}),
            )
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
