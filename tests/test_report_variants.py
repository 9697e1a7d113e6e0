"""Any method and any variant of APET appears in figures, tables and captions, whether known here by name or not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from apet.analysis.study import Analysis, analyze
from apet.report import captions, tables
from apet.report.figures import gap_by_scale, score_by_budget, sheet, structure, thresholds
from apet.report.formatting import display_name
from apet.report.latex import latex_text
from apet.report.style import method_style
from apet.report.variants import difference_heading, difference_keys, difference_sides, structure_variants
from synthetic_results import curves, study

THIRD = "apet-magnitude"


@pytest.fixture(scope="module")
def with_guests() -> Analysis:
    """(IA)³ in the place of prompts, a guest's method in that of BitFit, and a third variant of APET."""
    runs = study(2, sd=0.005, tasks=["films"], backbones=["mid"], variants=["apet-adjacent", "apet-discrete", THIRD])
    runs["method"] = runs["method"].replace({"prompt": "ia3", "bitfit": "guest"})
    return analyze(runs, curves(runs, lambda _: 15.0))


@pytest.fixture(scope="module")
def three_variants(with_guests) -> Analysis:
    """The same, with the third variant in every structural comparison."""
    structures = []
    for s in with_guests.structures:
        score, difference = s.scores["apet-adjacent"], s.differences["method-adjacent"]
        more = {"method-magnitude": difference, "adjacent-magnitude": difference, "discrete-magnitude": difference}
        structures.append(replace(s, scores=s.scores | {THIRD: score}, differences=s.differences | more))
    return replace(with_guests, structures=structures)


def legend(figure) -> list[str]:
    return [t.get_text() for box in figure.legends for t in box.get_texts()]


@pytest.mark.parametrize("module", [gap_by_scale, score_by_budget, thresholds])
def test_guests_stand_in_the_legend_of_every_figure_with_a_look_of_their_own(module, with_guests):
    shown = {"(IA)³", "guest", "APET-magnitude"}
    if module is thresholds:  # needs several counts, which methods at their default sizes do not have
        shown = {"APET-magnitude"}
    with sheet.drawing_style():
        (figure,) = module.draw(with_guests, False).values()
    assert shown <= set(legend(figure))
    traces = [t for plot in module.interactive_figure(with_guests).plots.values() for t in plot["data"]]
    colors = {t["meta"]: t["line"]["color"] for t in traces if "markers" in t["mode"] and t["meta"] == THIRD}
    assert colors == {THIRD: method_style(THIRD).color}


def test_a_third_variant_has_its_bar_its_columns_and_its_place_in_the_caption(three_variants):
    with sheet.drawing_style():
        (figure,) = structure.draw(three_variants, False).values()
    assert "APET-magnitude" in legend(figure)
    bars = sorted((p.get_x(), p.get_x() + p.get_width()) for p in figure.axes[0].patches)
    groups = len(three_variants.structures) // 2  # half of them are means
    assert len(bars) == 4 * groups
    assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(bars))  # none hides another
    assert "the method, APET-adjacent, APET-discrete and APET-magnitude" in captions.structure(three_variants)
    header = tables.structure(three_variants).csv_header()
    for name in ("apet_magnitude_score", "method_minus_magnitude_ci_low_seeds", "discrete_minus_magnitude_verdict"):
        assert name in header


def test_on_the_page_a_third_variant_has_a_place_beside_the_others_and_its_differences_in_the_hover(three_variants):
    (plot, *_) = structure.interactive_figure(three_variants).plots.values()
    places = [(t["offsetgroup"], x) for t in plot["data"] for x in t["x"]]
    assert len(places) == len(set(places))
    assert {place for place, _ in places} == {"method", "apet-adjacent", "apet-discrete", THIRD}
    text = plot["data"][0]["text"][0]
    assert "method − magnitude: " in text
    assert "discrete − magnitude: " in text


def test_differences_are_read_whatever_the_distributions_are_called(three_variants):
    variants = structure_variants(three_variants.structures, three_variants.data.methods)
    assert variants == ("apet-adjacent", "apet-discrete", THIRD)
    keys = difference_keys(three_variants.structures)
    assert keys[:3] == ("method-adjacent", "method-discrete", "method-magnitude")
    assert difference_heading(keys[0], variants) == "method − adjacent"
    odd = ("apet-every-nth", "apet-nth", "apet-adjacent")
    assert difference_sides("method-every-nth", odd) == ("method", "every-nth")
    assert difference_sides("every-nth-adjacent", odd) == ("every-nth", "adjacent")
    assert difference_sides("nth-every-nth", odd) == ("nth", "every-nth")


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("apet-every_nth", "APET-every_nth"),
        ("ia3", "(IA)³"),
        ("ln-tuning", "LN-tuning"),
        ("a guest's", "a guest's"),
        ("fine-tuning", "full fine-tuning"),
    ],
)
def test_a_method_has_the_name_that_the_field_gives_it_or_its_own(method, name):
    assert display_name(method) == name
    assert latex_text("(IA)³") == "(IA)$^3$"
