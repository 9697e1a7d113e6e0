"""Any method and any variant of APET appears in figures, tables and captions, whether known here by name or not."""

from __future__ import annotations

from itertools import pairwise

import pytest

from apet.analysis.study import Analysis, analyze
from apet.reporting import captions, tables
from apet.reporting.figures import convergence, gap_by_scale, score_by_budget, sheet, structure, thresholds
from apet.reporting.formatting import display_name
from apet.reporting.latex import latex_text
from apet.reporting.style import method_style
from apet.reporting.variants import difference_headings
from synthetic_results import curves, study

THIRD = "apet-magnitude"
HALF_LIFE = {"apet-adjacent": 10.0, "apet-discrete": 20.0}


@pytest.fixture(scope="module")
def with_guests() -> Analysis:
    """(IA)³ in the place of prompts, a guest's method in that of BitFit, and a third variant of APET."""
    runs = study(2, sd=0.005, tasks=["films"], backbones=["mid"], variants=["apet-adjacent", "apet-discrete", THIRD])
    runs["method"] = runs["method"].replace({"prompt": "ia3", "bitfit": "guest"})
    return analyze(runs, curves(runs, lambda m: HALF_LIFE.get(m, 15.0)))


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


def test_a_third_variant_has_its_bar_its_columns_and_its_place_in_the_caption(with_guests):
    with sheet.drawing_style():
        (figure,) = structure.draw(with_guests, False).values()
    assert "APET-magnitude" in legend(figure)
    bars = sorted((p.get_x(), p.get_x() + p.get_width()) for p in figure.axes[0].patches)
    groups = len(with_guests.structures) // 2  # half of them are means
    assert len(bars) == 4 * groups
    assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(bars))  # none hides another
    assert "the method, APET-adjacent, APET-discrete and APET-magnitude" in captions.structure(with_guests)
    header = tables.structure(with_guests).csv_header()
    for name in ("apet_magnitude_score", "method_minus_magnitude_ci_low_seeds", "discrete_minus_magnitude_verdict"):
        assert name in header


def test_on_the_page_a_third_variant_has_a_place_beside_the_others_and_its_differences_in_the_hover(with_guests):
    (plot, *_) = structure.interactive_figure(with_guests).plots.values()
    places = [(t["offsetgroup"], x) for t in plot["data"] for x in t["x"]]
    assert len(places) == len(set(places))
    assert {place for place, _ in places} == {"method", "apet-adjacent", "apet-discrete", THIRD}
    text = plot["data"][0]["text"][0]
    assert "method − magnitude: " in text
    assert "discrete − magnitude: " in text


def test_every_pair_of_variants_has_its_rows_its_panels_and_its_words_in_convergence(with_guests):
    table = tables.convergence(with_guests)
    header = table.csv_header()
    assert header[:6] == [
        *("backbone", "pair", "num_trainable"),
        *("apet_adjacent_steps", "apet_discrete_steps", "apet_magnitude_steps"),
    ]
    assert {row[1] for row in table.rows} == {
        "adjacent / discrete",
        "adjacent / magnitude",
        "discrete / magnitude",
    }
    verdicts = {row[1]: row[-1] for row in table.rows if row[2] is None}
    assert verdicts["adjacent / magnitude"] == "adjacent sooner"
    assert verdicts["discrete / magnitude"] == "magnitude sooner"
    with sheet.drawing_style():
        (figure,) = convergence.draw(with_guests, False).values()
    assert legend(figure)[-3:] == ["APET-adjacent", "APET-discrete", "APET-magnitude"]
    assert len([x for x in figure.axes if x.get_visible()]) == 9  # three counts of each of three pairs
    assert "APET-discrete against APET-magnitude" in captions.convergence(with_guests)
    (plot,) = convergence.interactive_figure(with_guests).plots.values()
    assert {"apet-adjacent", "apet-discrete", THIRD, "ia3", "guest"} <= {t["meta"] for t in plot["data"]}


def test_the_pair_of_the_paper_alone_needs_no_column_that_names_it():
    runs = study(2, tasks=["films"], backbones=["mid"])
    a = analyze(runs, curves(runs, lambda _: 15.0))
    assert tables.convergence(a).csv_header()[:4] == [
        "backbone",
        "num_trainable",
        "apet_adjacent_steps",
        "apet_discrete_steps",
    ]


def test_differences_with_the_method_come_first_whatever_the_distributions_are_called():
    runs = study(2, tasks=["films"], backbones=["mid"], variants=["apet-every-nth", "apet-nth"])
    structures = analyze(runs, curves(runs, lambda _: 15.0)).structures
    assert list(difference_headings(structures).values()) == ["method − every-nth", "method − nth", "every-nth − nth"]


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
