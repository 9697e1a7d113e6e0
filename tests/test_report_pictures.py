"""The pictures of a comparison, of a recommendation and of one run: every number that they stand for is in them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from apet.recommendation.answer import CurvePointOfFamily, Recommendation, Tried
from apet.reporting import comparison
from apet.reporting.figures import comparison as side_by_side
from apet.reporting.figures import printing, recommendation, run_curve
from apet.reporting.recommendation import write_recommendation
from apet.training.result import CurvePoint
from run_records import result_record
from test_report_comparison import SyntheticStudy


def tried(family: str, n: int, score: float, time: float | None) -> Tried:
    method = re.split(r"[( ]", family)[0]
    return Tried(family, method, n, 1e-3, score, 2, 0.5, time, 0.6, "runs/x")


@pytest.fixture
def answer() -> Recommendation:
    arms = (
        tried("bitfit", 1_769, 0.71, 0.6),
        tried("apet-discrete", 2_048, 0.77, None),
        tried("lora", 4_096, 0.79, 0.7),
        tried("lora(every linear layer)", 16_384, 0.83, 0.8),
        tried("fine-tuning", 53_152, 0.86, 1.0),
    )
    curve = tuple(CurvePointOfFamily(64 * 2**i, 0.5 + 0.03 * i, 0.1, 0.99) for i in range(9))
    texts = {"state": "decided", "headline": "use it", "backbone": "t5", "task": "sst2", "metric": "accuracy"}
    more = {"reach": "95 %", "within": 60.0, "seconds": 9.0, "num_runs": 5, "ended": "decided", "stand_in": ""}
    return Recommendation(
        **texts, **more, reference="fine-tuning", num_validation=500, steps=400, num_families=5, use=arms[3],
        reference_score=0.86, untrained=0.5, constant=0.52, tried=arms, curve=curve,
    )  # fmt: skip


def texts(svg: str) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", svg))


def test_a_recommendation_shows_every_way_that_was_tried_and_rings_the_answer(answer):
    figure = recommendation.figure(answer)
    points = {r["method"]: (r["n"], r["score"]) for r in figure.rows if r["kind"] == "point"}
    assert points == {
        "BitFit": (1_769, 71),
        "APET-discrete": (2_048, 77),
        "LoRA": (4_096, 79),
        "LoRA (every linear layer)": (16_384, 83),
        "full fine-tuning": (53_152, 86),
    }
    assert [r["method"] for r in figure.rows if r.get("use")] == ["LoRA (every linear layer)"]
    assert {(r["kind"], r["score"]) for r in figure.rows if r["kind"] in ("untrained", "reference")} == {
        ("untrained", 52),
        ("reference", 86),
    }
    assert set(points) <= texts(printing.svg(figure))
    assert len({(s.color, s.shape) for s in figure.looks}) == len(points)


def test_the_band_of_its_curve_does_not_squash_what_was_tried(answer):
    band = [r for r in recommendation.figure(answer).rows if r["kind"] == "band"]
    assert len(band) == 9
    assert min(r["low"] for r in band) == pytest.approx(52 - 3.4)
    assert max(r["high"] for r in band) == pytest.approx(86 + 3.4)


def test_an_error_is_a_positive_number_and_less_of_it_is_up(answer):
    arms = tuple(replace(p, score=-p.score) for p in answer.tried)
    error = replace(answer, metric="rmse", tried=arms, use=arms[0], untrained=-2.0, constant=-1.5, curve=())
    figure = recommendation.figure(error)
    assert {r["method"]: r["score"] for r in figure.rows if r["kind"] == "point"}["LoRA"] == 0.79
    assert [r["score"] for r in figure.rows if r["kind"] == "untrained"] == [1.5]
    assert '"reverse": true' in json.dumps(figure.spec)
    assert "validation rmse (less is better)" in texts(printing.svg(figure))


def test_its_page_opens_with_the_answer_and_the_picture_and_holds_the_numbers(answer, tmp_path: Path):
    page = write_recommendation(answer, tmp_path).read_text("utf-8")
    assert page.index("use it") < page.index('id="figure-recommendation"') < page.index("<main")
    assert 'data-table="tried"' in page
    assert (tmp_path / "recommendation.png").read_bytes().startswith(b"\x89PNG")
    assert "http://" not in page.split("<script>")[0]


def test_a_comparison_shows_means_with_intervals_and_a_curve_of_each_seed():
    run_ids = ["fine-tuning-0", "fine-tuning-1", "fine-tuning-2", "lora-0", "lora-1", "bitfit-0"]
    methods = comparison.method_runs(SyntheticStudy(), run_ids)
    figure = side_by_side.figure(methods)
    points = {r["method"]: r for r in figure.rows if r["kind"] == "point"}
    assert {m: (p["n"], p["score"]) for m, p in points.items()} == {
        "full fine-tuning": (39_712, 80),
        "LoRA": (2_048, 60),
    }
    assert (points["LoRA"]["low"], points["LoRA"]["high"], points["LoRA"]["one_seed"]) == (50, 65, True)
    assert points["LoRA"]["hollow"], "its other seed failed"
    ends = sorted((r["method"], r["score"]) for r in figure.rows if r.get("last"))
    assert ends == [("LoRA", 60), ("full fine-tuning", 70), ("full fine-tuning", 80), ("full fine-tuning", 90)]
    svg = printing.svg(figure, title="A title", subtitle="so many words that they need several lines " * 6)
    assert float(re.search(r'<svg[^>]* width="([\d.]+)"', svg)[1]) == pytest.approx(printing.WIDTHS["page"], abs=2)


def test_a_run_shows_each_point_of_its_curve_and_which_was_kept():
    curve = [
        CurvePoint(step=0, loss=None, score=0.5, ci_low=0.4, ci_high=0.6, seconds=0.0),
        CurvePoint(step=10, loss=0.7, score=0.6, ci_low=0.5, ci_high=0.7, seconds=0.5),
    ]
    result = result_record()
    rows = run_curve.figure(result, curve, "caption").rows
    by_kind = {kind: [(r["step"], r["score"]) for r in rows if r["kind"] == kind] for kind in {r["kind"] for r in rows}}
    assert by_kind == {
        run_curve.SCORE: [(0, 50), (10, 60)],
        run_curve.LOSS: [(10, 0.7)],
        f"best {run_curve.SCORE}": [(result.best_step, None)],
        f"chance {run_curve.SCORE}": [(None, 50)],
    }
