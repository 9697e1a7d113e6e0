"""E9: the gap over N and scale, against planted answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from apet.analysis.frames import CURVES
from apet.analysis.study import analyze
from apet.reporting.experiments import gap_surface
from apet.reporting.headline import findings
from apet.reporting.study import write_report
from synthetic_results import row

NO_CURVES = pd.DataFrame(columns=list(CURVES))
SIZES = {"tiny": 100_000, "mid": 1_000_000, "large": 10_000_000}
COUNTS = (64, 1_024, 16_384)
FULL = 0.9


def true_gap(size, n):
    """Each tenfold of the backbone and each sixteenfold of N take some points of the gap."""
    return 0.24 - 0.04 * np.log10(size / 1e5) - 0.03 * np.log2(n / 64) / 4


def runs_of(counts=COUNTS, sizes=SIZES, seeds=3, own_counts=()):
    """LoRA at the counts on each backbone, and at counts of its own on each, with full fine-tuning beside it."""
    rng = np.random.default_rng(0)
    rows = []
    for name, size in sizes.items():
        for task in ("films", "claims"):
            for seed in range(seeds):
                noise = 0.002 * rng.standard_normal()
                same = {"backbone": name, "num_backbone_parameters": size, "task": task, "seed": seed}
                full = {"method": "fine-tuning", "num_trainable": size, "budget": None}
                rows.append(row(**same, **full, score=FULL + noise))
                for n in (*counts, *(size // c for c in own_counts)):
                    lora = {"method": "lora", "num_trainable": n, "budget": str(n)}
                    rows.append(row(**same, **lora, score=FULL - true_gap(size, n) + noise))
    return pd.DataFrame(rows)


def test_planted_gaps_come_out_at_every_count_and_scale():
    cells = [c for c in analyze(runs_of(), NO_CURVES).gap_surfaces if c.task is None]
    assert [(c.num_trainable, c.scale.name) for c in cells] == [(n, name) for n in COUNTS for name in SIZES]
    for c in cells:
        assert c.gap.score == pytest.approx(true_gap(c.scale.num_parameters, c.num_trainable), abs=1e-9)
        assert c.gap.num_seeds == 3


def test_counts_that_one_backbone_alone_has_compare_nothing_and_are_left_out():
    cells = analyze(runs_of(own_counts=(50,)), NO_CURVES).gap_surfaces
    assert {c.num_trainable for c in cells} == set(COUNTS)


@pytest.mark.parametrize(
    "runs", [runs_of(counts=(64,)), runs_of(sizes={"mid": 1_000_000}), runs_of(counts=(), own_counts=(10, 50))]
)
def test_one_count_or_one_backbone_is_no_surface_and_is_not_spoken_of(runs, tmp_path):
    a = analyze(runs, NO_CURVES)
    assert a.gap_surfaces == []
    report = write_report(tmp_path / "report", runs, NO_CURVES, {})
    assert "E9 ·" not in report.page.read_text()


def test_its_finding_names_the_gaps_of_the_corners():
    found = [f.text for f in findings(analyze(runs_of(), NO_CURVES)) if f.experiment == "E9"]
    assert found == [
        "LoRA of bert, from 64 to 16,384 parameters: gap 24.0 to 18.0 points on tiny and 16.0 to 10.0 points on large."
    ]


def test_the_figure_has_a_cell_for_each_and_brackets_where_the_interval_includes_0():
    runs = runs_of()
    weak = (runs["backbone"] == "large") & (runs["num_trainable"] == 16_384)
    runs.loc[weak, "score"] = FULL + np.where(runs.loc[weak, "seed"] == 0, 0.05, -0.025)
    runs["ci_low"], runs["ci_high"] = runs["score"] - 0.01, runs["score"] + 0.01
    rows = [r for r in gap_surface.figure(analyze(runs, NO_CURVES)).rows if r["task"] == "mean over tasks"]
    assert len(rows) == len(COUNTS) * len(SIZES)
    told = {(r["backbone"], r["n"]): str(r["told"]) for r in rows}
    assert told["tiny", 64] == "24.0"
    assert told["large", 16_384].startswith("(")
    assert sum(t.startswith("(") for t in told.values()) == 1


def test_a_report_has_the_picture_and_the_table(tmp_path):
    report = write_report(tmp_path / "report", runs_of(), NO_CURVES, {})
    assert {p.name for p in report.figures if "surface" in p.name} == {
        f"gap_surface.{s}" for s in ("pdf", "png", "tex")
    }
    table = pd.read_csv(report.folder / "tables" / "gap_surface.csv")
    assert len(table) == 3 * len(COUNTS) * len(SIZES), "two tasks and their mean"
