"""Run folders and a study's record of runs that nobody trained, as apet writes them."""

from __future__ import annotations

from pathlib import Path

from apet.studies.held_store import open_store
from apet.training.config import RunAxes
from apet.training.result import RunResult, TransferRecord

# The folder tests/ is on the path: `make fuzz` puts it there.
from run_records import result_record, write_run_folder

NUM_RUNS = 4


def record(study: int, n: int) -> RunResult:
    """The record of one run; no two have the same score or name."""
    score = (1 + n) / 8 + study / 16
    return result_record(
        run_id=f"{study}{n}" * 8, score=score, score_last=score, ci_low=score - 0.1, ci_high=score + 0.1, seed=n
    )


def write_study(folder: Path, study: int) -> None:
    """A study of `NUM_RUNS` finished runs, one that failed, and transfers."""
    with open_store(folder) as store:
        store.describe(f"study {study}", _DEFINITION, NUM_RUNS + 1)
        for n in range(NUM_RUNS):
            made = record(study, n)
            write_run_folder(store.run_folder(made.run_id), made)
            store.record_result(made.run_id, _axes(n))
            transfer = TransferRecord(
                target="shops",
                score=made.score / 2,
                ci_low=0.0,
                ci_high=1.0,
                num_examples=made.num_examples,
                majority_baseline=None,
            )
            store.record_transfer(made.run_id, transfer)
        store.fail("f" * 16, _axes(NUM_RUNS), "ValueError: out of luck")


def _axes(n: int) -> RunAxes:
    return RunAxes("little", "films", "apet-adjacent", "default", n)


_DEFINITION = """\
name: little
backbones: [little]
tasks: [films]
methods: [apet-adjacent]
budgets: [default]
seeds: [0, 1, 2, 3, 4]
"""
