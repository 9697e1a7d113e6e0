"""Any method and any variant of APET appears in figures, tables and captions, whether known here by name or not."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from apet.analysis.study import Analysis, analyze
from apet.reporting.experiments import convergence, gap_by_scale, score_by_budget, structure, thresholds
from apet.reporting.figures import printing
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


def texts(figure) -> set[str]:
    """Everything that is written in the printed figure."""
    return set(re.findall(r">([^<>]+)</text>", printing.svg(figure)))


@pytest.mark.parametrize("module", [gap_by_scale, score_by_budget, thresholds])
def test_guests_stand_in_every_figure_with_a_look_of_their_own(module, with_guests):
    shown = {"(IA)³", "guest", "APET-magnitude"}
    if module is thresholds:  # needs several counts, which methods at their default sizes do not have
        shown = {"APET-magnitude"}
    figure = module.figure(with_guests)
    assert shown <= texts(figure)
    assert THIRD in figure.methods
    assert method_style(THIRD).color in printing.svg(figure)


def test_a_third_variant_has_its_bar_its_columns_and_its_place_in_the_caption(with_guests):
    figure = structure.figure(with_guests)
    assert "APET-magnitude" in texts(figure)
    bars = [(r["panel"], r["task"], r["group"], r["place"]) for r in figure.rows]
    assert len(bars) == len(set(bars)) == 4 * len(with_guests.structures)  # none hides another
    assert {place for *_, place in bars} == {structure.THE_METHOD, "APET-adjacent", "APET-discrete", "APET-magnitude"}
    assert "the method, APET-adjacent, APET-discrete and APET-magnitude" in structure.caption(with_guests)
    header = structure.table(with_guests).csv_header()
    for name in ("apet_magnitude_score", "method_minus_magnitude_ci_low_seeds", "discrete_minus_magnitude_verdict"):
        assert name in header
    said = str(figure.rows[0]["differences"])
    assert "method − magnitude " in said
    assert "discrete − magnitude " in said


def test_bars_stand_beside_each_other_in_print(with_guests):
    figure = structure.figure(with_guests)
    bars = re.findall(r'aria-roledescription="bar" d="M([\d.]+),[\d.]+h([\d.]+)', printing.svg(figure))
    bars = bars or re.findall(r'<path d="M([\d.]+),[\d.]+h([\d.]+)v[\d.]+h-[\d.]+Z" fill="#', printing.svg(figure))
    edges = sorted((float(x), float(x) + float(w)) for x, w in bars)
    assert len(edges) == 4 * len(with_guests.structures) // 2  # half of them are means
    assert all(end <= start + 0.01 for (_, end), (start, _) in pairwise(edges))


def test_every_pair_of_variants_has_its_rows_its_panels_and_its_words_in_convergence(with_guests):
    table = convergence.table(with_guests)
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
    figure = convergence.figure(with_guests)
    assert {"APET-adjacent", "APET-discrete", "APET-magnitude"} <= texts(figure)
    panels = [r["panel"] for r in figure.rows if convergence.DEFAULT_SIZES not in str(r["panel"])]
    methods_by_panel = {p: {r["method"] for r in figure.rows if r["panel"] == p} for p in panels}
    assert all("APET-magnitude" in methods for methods in methods_by_panel.values() if len(methods) > 2)
    assert "APET-discrete against APET-magnitude" in convergence.caption(with_guests)
    assert {"(IA)³", "guest"} <= {r["method"] for r in figure.rows}


def test_the_pair_of_the_paper_alone_needs_no_column_that_names_it():
    runs = study(2, tasks=["films"], backbones=["mid"])
    a = analyze(runs, curves(runs, lambda _: 15.0))
    assert convergence.table(a).csv_header()[:4] == [
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
