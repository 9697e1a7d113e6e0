"""E10: one N at different places, against planted answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from apet.analysis.frames import CURVES
from apet.analysis.placement import placed, placements
from apet.analysis.study import analyze
from apet.analysis.study_data import StudyData
from apet.errors import ApetError
from apet.reporting.experiments import placement
from apet.reporting.headline import findings
from apet.reporting.study import write_report
from apet.training.config import method_label
from synthetic_results import row

NO_CURVES = pd.DataFrame(columns=list(CURVES))
N = 1_024
TRUE = {None: 0.80, "attn.q": 0.75, "attn.v + mlp.up": 0.84, "norm": 0.80}


def name(method, roles):
    return method_label(method, {} if roles is None else {"roles": roles.split(" + ")})


def runs_of(method="lora", places=tuple(TRUE), seeds=4):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            row(
                backbone=backbone, task=task, method=name(method, roles), num_trainable=N, budget=str(N), seed=seed,
                score=float(TRUE[roles] + 0.002 * rng.standard_normal()),
            )
            for backbone in ("tiny", "large")
            for task in ("films", "claims")
            for roles in places
            for seed in range(seeds)
        ]
    )  # fmt: skip


def test_a_name_says_where_a_method_stands():
    assert placed("lora(roles=['attn.q', 'attn.v'])") == ("lora", "attn.q + attn.v")
    assert placed("apet-discrete(roles=['mlp.*'])") == ("apet-discrete", "mlp.*")
    for other in ("lora", "lora(rank=4)", "apet-discrete(sites=4)", "apet-discrete(roles=['mlp.*'], sites=4)"):
        assert placed(other) is None


@pytest.mark.parametrize("method", ["lora", "apet-discrete"])
def test_planted_scores_and_differences_come_out_by_place(method):
    found = [p for p in placements(StudyData.of(runs_of(method))) if p.scale.name == "large" and p.task is None]
    assert [p.roles for p in found] == [None, "attn.q", "attn.v + mlp.up", "norm"]
    assert [p.score.score for p in found] == pytest.approx(list(TRUE.values()), abs=0.004)
    assert found[0].difference is None
    assert [p.difference.verdict for p in found[1:] if p.difference] == ["lower", "higher", "no significant difference"]


def test_places_are_compared_with_each_other_where_nobody_ran_the_methods_own():
    found = placements(StudyData.of(runs_of(places=("attn.q", "norm"))))
    assert {p.roles for p in found} == {"attn.q", "norm"}
    assert all(p.difference is None for p in found)


def test_one_place_is_no_comparison():
    a = analyze(runs_of(places=("norm",)), NO_CURVES)
    assert a.placements == []
    assert not placement.EXPERIMENT.asked(a)


def test_a_missing_run_is_refused_or_counted():
    runs = runs_of().drop(index=3)
    with pytest.raises(ApetError, match="missing"):
        placements(StudyData.of(runs))
    found = [p for p in placements(StudyData.of(runs), allow_holes=True) if p.scale.name == "tiny" and p.task is None]
    assert {p.score.num_missing for p in found} != {0}


def test_placed_variants_are_not_taken_for_another_structure():
    assert StudyData.of(runs_of("apet-discrete")).variants == ("apet-discrete",)


def test_its_finding_names_places_that_differ_after_correction():
    told = [f.text for f in findings(analyze(runs_of(), NO_CURVES)) if f.experiment == "E10"]
    assert len(told) == 2
    assert told[0].startswith("LoRA with 1,024 parameters on tiny, in points against its own places, of 3 comparisons")
    assert "higher on attn.v + mlp.up 3.9" in told[0]
    assert "lower on attn.q −" in told[0]
    assert "norm" not in told[0]


def test_a_report_has_the_picture_and_the_table(tmp_path):
    report = write_report(tmp_path / "report", runs_of(), NO_CURVES, {})
    assert {p.name for p in report.figures if "placement" in p.name} == {
        f"placement.{s}" for s in ("pdf", "png", "tex")
    }
    table = pd.read_csv(report.folder / "tables" / "placement.csv")
    assert set(table["roles"]) == {placement.OWN_PLACES, *(str(r) for r in TRUE if r)}
