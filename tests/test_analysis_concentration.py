"""E8: the score over the number of weights that one N falls on, against planted answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from apet.analysis.concentration import concentrated, concentrations
from apet.analysis.study import analyze
from apet.analysis.study_data import StudyData
from apet.errors import ApetError
from apet.reporting.experiments import concentration
from apet.reporting.headline import findings
from apet.reporting.study import write_report
from synthetic_results import row, study

NO_CURVES = pd.DataFrame(columns=["run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds"])
N, SITES = 1024, (1, 4, 16, 64)


def true_score(variant, sites):
    """Few weights: a block is ahead of a scatter by 4 points; from 16 weights on both are the same."""
    return 0.70 + 0.02 * np.log2(sites) / 2 + (0.04 if variant == "apet-adjacent" and sites < 16 else 0.0)


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    rows = [
        row(
            backbone=backbone,
            task=task,
            method=f"{variant}(sites={sites})" if sites != 16 else f"{variant}(run_length={N // sites})",
            num_trainable=N,
            budget=str(N),
            seed=seed,
            score=float(true_score(variant, sites) + 0.001 * rng.standard_normal()),
        )
        for backbone in ("tiny", "large")
        for task in ("films", "claims")
        for variant in ("apet-discrete", "apet-adjacent")
        for sites in SITES
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_a_name_says_on_how_many_weights_a_budget_falls():
    assert concentrated("apet-discrete(sites=4)", 1000) == ("apet-discrete", 4)
    assert concentrated("apet-adjacent(run_length=16)", 1024) == ("apet-adjacent", 64)
    assert concentrated("apet-adjacent(run_length=16)", 8) == ("apet-adjacent", 1)
    for other in ("apet-adjacent", "lora(rank=4)", "apet-adjacent(roles=mlp)", "apet-adjacent(roles=mlp, sites=4)"):
        assert concentrated(other, 1024) is None


def test_planted_scores_and_differences_come_out_by_number_of_weights(runs):
    found = [c for c in concentrations(StudyData.of(runs)) if c.scale.name == "large" and c.task is None]
    assert [c.sites for c in found] == list(SITES)
    for c in found:
        assert list(c.scores) == ["apet-discrete", "apet-adjacent"] or set(c.scores) == set(c.methods)
        for variant, e in c.scores.items():
            assert e.score == pytest.approx(true_score(variant, c.sites), abs=0.003)
        gap = c.differences["adjacent-discrete"]
        assert gap.verdict == ("higher" if c.sites < 16 else gap.verdict)
        assert gap.score == pytest.approx(0.04 if c.sites < 16 else 0.0, abs=0.003)


def test_a_number_of_weights_that_lacks_a_task_narrows_all_to_the_shared_ones_or_is_refused(runs):
    gone = runs["method"].eq("apet-adjacent(sites=1)") & runs["task"].eq("films") & runs["backbone"].eq("large")
    with pytest.raises(ApetError, match="missing"):
        concentrations(StudyData.of(runs[~gone]))
    found = [c for c in concentrations(StudyData.of(runs[~gone]), allow_holes=True) if c.scale.name == "large"]
    assert all(e.num_missing > 0 for c in found if c.task is None for e in c.scores.values())


def test_one_number_of_weights_is_no_comparison(runs):
    alone = runs[runs["method"].str.contains("sites=4")]
    a = analyze(alone, NO_CURVES)
    assert not a.concentrations
    assert a.missing["E8"] == "needs APET at one count on several numbers of weights (sites)"


def test_variants_with_settings_do_not_enter_the_comparison_of_structures(runs):
    plain = study(seeds=3, tasks=["films", "claims"], backbones=["tiny", "large"])
    a = analyze(pd.concat([plain, runs]), NO_CURVES)
    assert a.data.variants == ("apet-adjacent", "apet-discrete")
    assert a.data.concentrated_variants == ("apet-adjacent", "apet-discrete")
    assert not any("(" in m for s in a.structures for m in s.scores)


def test_the_report_has_its_figure_and_its_table(runs, tmp_path):
    a = analyze(runs, NO_CURVES)
    figure, table = concentration.figure(a), concentration.table(a)
    assert [c.options for c in figure.choices] == [("large", "tiny"), ("mean over tasks", "claims", "films")]
    assert len(figure.rows) == 2 * 3 * 2 * len(SITES)
    assert len(table.rows) == 2 * 3 * len(SITES)
    low, high = figure.spec["spec"]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert all(low < r["place"] < high for r in figure.rows), "no point lies beyond its axis"
    report = write_report(tmp_path / "report", runs, NO_CURVES, {"name": "few or many"})
    assert (tmp_path / "report/tables/concentration.csv").is_file()
    assert (tmp_path / "report/figures/concentration.pdf").is_file()
    assert "E8 · Concentration" in report.page.read_text("utf-8")


def test_the_report_says_on_how_many_weights_the_variants_differ(runs):
    told = [f.text for f in findings(analyze(runs, NO_CURVES)) if f.experiment == "E8"]
    assert len(told) == 2
    for text in told:
        assert text.endswith(" points on 4 weights.")
        assert "different of 4 comparisons after Holm's correction: adjacent − discrete " in text
        assert "on 1 weight and" in text
    alike = runs.assign(score=runs["seed"].map({0: 0.699, 1: 0.700, 2: 0.701}), ci_low=0.69, ci_high=0.71)
    assert all("none of 4 comparisons" in f.text for f in findings(analyze(alike, NO_CURVES)) if f.experiment == "E8")
