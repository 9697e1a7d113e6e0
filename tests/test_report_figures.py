"""Figures: valid Vega-Lite, rows that are the numbers of the tables, axes that stay readable, print that fits."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from types import SimpleNamespace

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from apet.analysis.curve_values import ThresholdAnswer
from apet.analysis.study import Analysis, analyze
from apet.reporting.experiments import gap_by_scale, score_by_budget, structure, thresholds
from apet.reporting.experiments import transfer as heat_map
from apet.reporting.figures import log_axis, marks, printing
from apet.reporting.figures.figure import Choice, Figure, packed
from apet.reporting.figures.heat import DARK_SHARE
from apet.reporting.figures.mean_curves import common_tasks_and_seeds, mean_curves
from apet.reporting.formatting import MEAN_OVER_TASKS
from apet.reporting.study import study_figures
from apet.reporting.style import _DERIVED_STYLES, DARK, LIGHT, method_style
from apet.reporting.table_files import csv_text
from synthetic_results import SIZES, curves, failing, study, transfer

NO_CURVES = pd.DataFrame(columns=["run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds"])


def small_study(**more) -> pd.DataFrame:
    grid = (64, 1_024, 16_384)
    return study(**({"seeds": 2, "tasks": ["films", "claims"], "backbones": ["tiny", "mid"], "grid": grid} | more))


def analyzed(runs: pd.DataFrame, **more) -> Analysis:
    half_life = {"apet-adjacent": 10.0, "apet-discrete": 20.0}
    return analyze(runs, curves(runs, lambda m: half_life.get(m, 15.0)), allow_holes=True, **more)


@pytest.fixture(scope="module")
def two_seeds() -> Analysis:
    return analyzed(small_study(sd=0.005), transfer=transfer())


@pytest.fixture(scope="module")
def figures(two_seeds) -> dict[str, Figure]:
    of_study = study_figures(two_seeds)
    assert set(of_study) == {"E1", "E2", "E3", "E4", "E5", "E7", "E9"}
    return of_study | {"answer": score_by_budget.answer_figure(two_seeds)}


@pytest.fixture(scope="module")
def one_seed() -> Analysis:
    return analyze(small_study(seeds=1, backbones=["mid"], sd=0.005), NO_CURVES, allow_holes=True)


@pytest.fixture(scope="module")
def incomplete() -> Analysis:
    """The second seed of LoRA on films is missing."""
    runs = small_study(backbones=["mid"], sd=0.005)
    gone = (runs["method"] == "lora") & (runs["task"] == "films") & (runs["seed"] == 1)
    return analyze(failing(runs, runs.index.get_loc(runs.index[gone][0])), NO_CURVES, allow_holes=True)


def test_every_chart_is_vega_lite_by_its_schema_and_so_is_what_we_add(figures):
    for figure in figures.values():
        figure.chart.to_dict()  # altair checks it against the schema
    assert alt.vegalite.v5.schema.core.TopLevelSpec.from_dict(figures["E2"].spec, validate=True)


def csv_rows(table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(table))))


def close(fraction: str, percent) -> bool:
    return percent == pytest.approx(100 * float(fraction), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("number", "table", "count"),
    [("E1", gap_by_scale.table, "n"), ("E4", score_by_budget.table, "n")],
)
def test_the_points_of_a_figure_are_the_numbers_of_its_table(figures, two_seeds, number, table, count):
    points = [
        r for r in figures[number].rows if r["kind"] == "point" and r.get("measure") in (None, gap_by_scale.SCORE)
    ]
    by_cell = {(r["backbone"], r["method"], str(r[count]), r["task"]): r for r in points}
    assert len(by_cell) == len(points)
    found = 0
    for row in csv_rows(table(two_seeds)):
        point = by_cell.get((row["backbone"], row["method"], row["num_trainable"], row["task"]))
        if row["method"] == "full fine-tuning" and number == "E4":
            assert point is None, "a line, for its count lies far from all others"
            continue
        assert point is not None, row
        assert close(row["score"], point["score"])
        assert close(row["score_ci_low_seeds"], point["low"]) or point["cut_low"]
        assert close(row["score_ci_high_seeds"], point["high"]) or point["cut_high"]
        found += 1
    assert found == len(points)


def test_the_gaps_of_the_figure_are_those_of_the_table(figures, two_seeds):
    gaps = [r for r in figures["E1"].rows if r["measure"] == gap_by_scale.GAP and r["kind"] == "point"]
    by_cell = {(r["backbone"], r["method"], r["task"]): r["score"] for r in gaps}
    rows = [r for r in csv_rows(gap_by_scale.table(two_seeds)) if r["gap"]]
    assert len(rows) == len(gaps)
    assert all(close(r["gap"], by_cell[r["backbone"], r["method"], r["task"]]) for r in rows)


def test_the_bars_of_structure_are_the_numbers_of_its_table(figures, two_seeds):
    rows = [r for r in figures["E2"].rows if r["place"] == structure.THE_METHOD]
    by_cell = {(r["backbone"], str(r["n"]), r["task"]): r["score"] for r in rows}
    in_table = csv_rows(structure.table(two_seeds))
    assert len(in_table) == len(rows)
    for row in in_table:
        task = MEAN_OVER_TASKS if row["task"].startswith("mean over") else row["task"]
        assert close(row["score"], by_cell[row["backbone"], row["num_trainable"], task])


def test_the_ranges_of_thresholds_and_the_cells_of_transfer_are_those_of_their_tables(figures, two_seeds):
    kinds = {(r["backbone"], r["panel"].split()[0], r["task"], r["method"]): r for r in figures["E5"].rows}
    for row in csv_rows(thresholds.table(two_seeds)):
        drawn = kinds[row["backbone"], row["threshold"], row["task"], row["method"]]
        assert drawn["open_high"] == (row["upper"] == "")
        if row["upper"]:
            assert drawn["end"] <= float(row["upper"]) + 1
        if not drawn["open_low"]:
            assert drawn["start"] == pytest.approx(float(row["lower"]), rel=1e-3, abs=1)
    cells = {(r["source"], r["target"]): r["score"] for r in figures["E7"].rows if r["kind"] == "cell"}
    table = csv_rows(heat_map.table(two_seeds))
    assert len(table) == len(cells) == 9
    assert all(close(r["relative"], cells[r["source"], r["target"]]) for r in table)


def test_a_curve_ends_at_the_mean_score_of_its_runs(figures, two_seeds):
    runs = two_seeds.data.runs
    done = runs[(runs["backbone"] == "mid") & (runs["method"] == "apet-adjacent") & (runs["num_trainable"] == 16_384)]
    curve = [
        r
        for r in figures["E3"].rows
        if (r["panel"], r["method"], r["task"], r["kind"])
        == ("mid, N = 16,384", "APET-adjacent", MEAN_OVER_TASKS, "curve")
    ]
    assert curve[-1]["step"] == 200
    assert curve[-1]["score"] == pytest.approx(100 * done["score"].mean(), abs=0.01)  # half-life 10 of 200 steps
    steps = [r for r in figures["E3"].rows if r["kind"] == "steps" and r["panel"] == "mid, N = 16,384"]
    assert {r["method"] for r in steps} == {"APET-adjacent", "APET-discrete"}


def test_no_figure_opens_on_empty_axes_and_every_option_shows_something(figures):
    for figure in figures.values():
        fields = [c.name for c in figure.choices]
        shown = {tuple(r[f] for f in fields) for r in figure.rows if r.get("score") is not None or "start" in r}
        opening = [c.options[0] for c in figure.choices]
        assert any(
            all(o == c.shows_all or o == v for o, v, c in zip(opening, row, figure.choices, strict=True))
            for row in shown
        ), figure.name
        for i, choice in enumerate(figure.choices):
            assert {row[i] for row in shown} >= {o for o in choice.options if o != choice.shows_all}, figure.name


def test_panels_of_one_comparison_share_their_axis(figures):
    for number in ("E2", "E3", "E5"):
        spec = figures[number].spec
        assert "facet" in spec
        assert spec.get("resolve", {}).get("scale", {}).get("y", "shared") == "shared"
    # different things measured, the gap and the score, do not
    assert figures["E1"].spec["resolve"]["scale"]["y"] == "independent"


score = st.floats(0, 100)


@given(st.lists(st.tuples(score, st.floats(0, 300), st.floats(0, 300)), min_size=1, max_size=12))
def test_wide_intervals_are_cut_at_an_arrow_and_never_squash_the_axis(estimates):
    rows = [{"score": s, "low": s - below, "high": s + above} for s, below, above in estimates]
    was_cut = marks.cut_wide_intervals(rows, lambda _: None)
    scores = [s for s, _, _ in estimates]
    span = max(scores) - min(scores)
    room = max(2 * marks.SMALLEST_MARGIN, span) + span
    assert max(r["high"] for r in rows) - min(r["low"] for r in rows) <= room + 1e-9
    for row, (s, below, above) in zip(rows, estimates, strict=True):
        assert row["low"] <= s <= row["high"]
        assert row["cut_low"] == (row["low"] > s - below)
        assert row["cut_high"] == (row["high"] < s + above)
    assert was_cut == any(r["cut_low"] or r["cut_high"] for r in rows)


def test_a_cut_interval_is_said_in_the_caption_and_drawn_with_an_arrow():
    wide = analyze(small_study(backbones=["tiny", "mid"], sd=0.05), NO_CURVES, allow_holes=True)
    figure = gap_by_scale.figure(wide)
    assert marks.CUT in figure.caption
    assert any(r.get("cut_high") for r in figure.rows)
    calm = analyze(small_study(sd=0.0002), NO_CURVES, allow_holes=True)
    assert marks.CUT not in gap_by_scale.figure(calm).caption


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (28, 955, [100]),
        (60, 1700, [100, 200, 500, 1000]),
        (90, 99_999, [100, 1_000, 10_000]),
        (210, 480, [300, 400]),
        (4_100, 4_900, None),
        (1, 1e12, None),
    ],
)
def test_a_logarithmic_axis_has_two_ticks_or_more(low, high, ticks):
    seen = log_axis.log_ticks(low, high)
    assert 2 <= len(seen) <= 9
    assert all(low * 0.999 <= t <= high * 1.001 for t in seen)
    if ticks is not None and len(ticks) > 1:
        assert seen == pytest.approx(ticks)


@given(st.floats(1, 1e9), st.floats(1.02, 1e9))
def test_every_logarithmic_axis_can_be_read(low, ratio):
    ticks = log_axis.log_ticks(low, low * ratio)
    assert 2 <= len(ticks) <= 20
    assert ticks == sorted(ticks)


@pytest.mark.parametrize("module", [gap_by_scale, structure, score_by_budget])
def test_of_one_seed_the_interval_is_over_the_items_and_marked_so(module, one_seed, two_seeds):
    points = [r for r in module.figure(one_seed).rows if r["kind"] == "point"]
    assert points
    assert all(r["one_seed"] for r in points)
    single = next(r for r in points if r["task"] == "films" and "gap" not in str(r.get("measure")))
    assert single["high"] - single["low"] == pytest.approx(2, abs=0.01)  # the items' interval of a run is ± 1
    assert not any(r["one_seed"] for r in module.figure(two_seeds).rows if r["kind"] == "point")


@pytest.mark.parametrize("module", [gap_by_scale, structure])
def test_numbers_that_miss_planned_runs_are_hollow(module, incomplete, two_seeds):
    hollow = {r["method"] for r in module.figure(incomplete).rows if r.get("hollow")}
    assert "LoRA" in hollow
    if module is gap_by_scale:
        assert hollow == {"LoRA"}
    assert not any(r.get("hollow") for r in module.figure(two_seeds).rows)


def test_a_point_says_its_seeds_and_of_one_run_its_id(one_seed, incomplete):
    of_one = next(r for r in score_by_budget.figure(one_seed).rows if r["method"] == "LoRA" and r["task"] == "films")
    assert of_one["seeds"] == "0, run mid-films-lora-4096-0"
    mean = next(
        r
        for r in gap_by_scale.figure(incomplete).rows
        if (r["method"], r["task"], r["measure"]) == ("LoRA", MEAN_OVER_TASKS, gap_by_scale.GAP)
    )
    assert mean["seeds"].startswith("1 of 0, 1; 2 tasks; †")
    assert "planned numbers missing" in mean["seeds"]


def test_both_distributions_are_averaged_over_the_same_tasks_and_seeds():
    def easy(method, backbone, n):
        return 0.8 if method == "apet-adjacent" else 0.7

    runs = small_study(backbones=["mid"], seeds=3, sd=0, true_score=easy)
    runs.loc[runs["task"] == "claims", "score"] -= 0.15  # claims are hard
    runs[["ci_low", "ci_high"]] = np.stack([runs["score"] - 0.01, runs["score"] + 0.01], axis=1)
    n = 1_024
    gone = (runs["num_trainable"] == n) & (
        ((runs["method"] == "apet-discrete") & (runs["task"] == "claims") & (runs["seed"] == 2))
        | ((runs["method"] == "apet-adjacent") & (runs["task"] == "films") & (runs["seed"] == 1))
    )
    a = analyzed(runs[~gone])
    m = mean_curves(a, a.data.scales[0], {"apet-adjacent": n, "apet-discrete": n})
    # of seeds 0, 1 and 2, the first alone has both tasks in both distributions
    assert (m.num_tasks, m.num_seeds) == (2, 1)
    ends = {k: mean[-1] for k, (mean, _, _) in m.by_method.items()}
    # over other tasks it would be 0.15 off
    assert ends["apet-adjacent"] - ends["apet-discrete"] == pytest.approx(0.1, abs=1e-3)
    assert mean_curves(a, a.data.scales[0], {"apet-adjacent": n}, ["no such task"]) is None


def test_where_no_seed_has_every_task_tasks_go():
    pairs = {("a", 0), ("a", 1), ("b", 2), ("c", 0), ("c", 1)}
    assert common_tasks_and_seeds(pairs) == (["a", "c"], [0, 1])
    assert common_tasks_and_seeds(set()) == ([], [])


@pytest.mark.parametrize(
    ("state", "lower", "upper", "opens"),
    [
        ("between", 100.0, 1_000.0, (False, False)),
        ("below the smallest N", 0.0, 100.0, (True, False)),
        ("above the largest N", 10_000.0, math.inf, (False, True)),
    ],
)
def test_an_open_end_of_a_threshold_is_an_arrow_and_no_point(state, lower, upper, opens):
    """At the smallest count stood the method's own symbol, as if the threshold were there."""
    median = {"between": 300.0, "below the smallest N": 0.0}.get(state, math.inf)
    answer = ThresholdAnswer("low", state, median, lower, upper, 100, 10_000)
    named = {"method": "lora", "scale": SimpleNamespace(name="tiny"), "task": None, "kind": "low", "seeds": 1}
    row = thresholds._row(SimpleNamespace(answer=answer, tried=(100, 1_000, 10_000), **named))
    assert (row["open_low"], row["open_high"]) == opens
    assert (row["median"] is None) == any(opens)
    assert (row["arrow_low"] or 101) < 100 or not opens[0]
    assert (row["arrow_high"] or 0) > 10_000 or not opens[1]


cells = st.none() | st.booleans() | st.integers(0, 3) | st.floats(0, 3) | st.sampled_from(["a", "b"])


@given(st.lists(st.fixed_dictionaries({"x": cells, "y": cells}), max_size=20))
def test_packed_rows_are_the_rows(rows):
    data = packed(rows)
    columns = {
        name: [values[0][i] for i in values[1]] if len(values) == 2 else values[0]
        for name, values in data["columns"].items()
    }
    again = [{name: column[i] for name, column in columns.items()} for i in range(data["rows"])]
    assert [{k: (type(v), v) for k, v in r.items()} for r in again] == [
        {k: (type(v), v) for k, v in r.items()} for r in rows
    ]


def test_quotes_in_a_name_do_not_end_its_filter():
    choice = Choice("backbone", ("it's", 'say "x"'), "it's")
    assert choice.filter == 'backbone == "it\'s" || datum.backbone == null || datum.backbone == backbone'


def svg_width(svg: str) -> float:
    return float(re.search(r'<svg[^>]* width="([\d.]+)"', svg)[1])


@pytest.mark.parametrize("width", ["column", "page"])
def test_printed_figures_have_the_width_of_a_column_or_a_page_whatever_the_names(width, figures):
    for number in ("E1", "E2", "E4", "E5"):
        drawn = printing.svg(figures[number], width)
        assert svg_width(drawn) == pytest.approx(printing.WIDTHS[width], abs=2), number


def test_long_names_fit_a_column():
    runs = small_study(backbones=["tiny", "mid"])
    long = {"tiny": "a-backbone-with-a-rather-long-name-tiny", "mid": "b" * 90}
    runs["backbone"] = runs["backbone"].replace(long)
    a = analyze(runs, NO_CURVES, allow_holes=True)
    for module in (structure, thresholds):
        assert svg_width(printing.svg(module.figure(a), "column")) == pytest.approx(printing.WIDTHS["column"], abs=2)


def test_a_pdf_has_its_fonts_inside_and_the_size_that_was_asked_for(figures):
    pdf = vl_convert.svg_to_pdf(printing.svg(figures["E4"], "column"))
    assert b"/FontFile2" in pdf
    assert b"/Subtype /Type3" not in pdf
    box = re.search(rb"/MediaBox ?\[0 0 ([\d.]+)", pdf)
    assert float(box[1]) == pytest.approx(printing.WIDTHS["column"], abs=2)


def test_print_overlays_the_scales_in_one_panel_and_says_which_is_which(figures):
    drawn = printing.svg(figures["E4"])
    assert {"mid", "tiny", "LoRA", "APET-discrete", "trained parameters"} <= set(re.findall(r">([^<>]+)</text>", drawn))
    assert len(re.findall(r"mark-line role-mark", drawn)) == 1 or "stroke-dasharray" in drawn


def test_the_caption_of_print_speaks_of_the_printed_figure(figures, tmp_path):
    paths = printing.save(figures["E4"], tmp_path, partial=True, width="column")
    assert {p.name for p in paths} == {f"score_by_budget.{s}" for s in ("pdf", "png", "tex")}
    tex = (tmp_path / "score_by_budget.tex").read_text("utf-8")
    assert r"\includegraphics[width=\columnwidth]{score_by_budget.pdf}" in tex
    assert "mean over tasks" in tex
    assert "Bars on the frame" not in tex, "ranges are not drawn where scales are overlaid"
    assert printing.PARTIAL_STUDY in printing.svg(figures["E4"], subtitle=printing.PARTIAL_STUDY)


def test_every_backbone_has_a_figure_of_its_tasks_in_print(two_seeds):
    by_task = score_by_budget.by_task(two_seeds)
    assert [f.name for f in by_task] == ["score_by_budget_tiny", "score_by_budget_mid"]
    assert {r["backbone"] for r in by_task[0].rows} == {"tiny"}
    drawn = printing.svg(by_task[0])
    assert {MEAN_OVER_TASKS, "films", "claims"} <= set(re.findall(r">([^<>]+)</text>", drawn))
    assert "Bars on the frame" in by_task[0].caption


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_marks_and_text_have_the_contrast_of_wcag_aa_on_white_and_on_dark():
    known = [*("fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet"), *("apet-adjacent", "apet-discrete")]
    for style in (*map(method_style, known), *_DERIVED_STYLES):
        assert contrast(style.color, LIGHT.paper) >= 3
        assert contrast(style.dark_color, DARK.paper) >= 3
    for theme in (LIGHT, DARK):
        assert contrast(theme.ink, theme.paper) >= 7
        assert contrast(theme.soft, theme.paper) >= 4.5


def test_a_number_in_the_heat_map_can_be_read_on_every_color():
    """cividis at a few places, as d3 has it."""
    cividis = {0: "#002051", 0.25: "#3c4d6e", 0.45: "#6f716e", 0.5: "#7f7c75", 0.75: "#bbaf71", 1: "#fdea45"}
    for share, color in cividis.items():
        text = "#ffffff" if share < DARK_SHARE else "#000000"
        assert contrast(text, color) >= 4.5, share


def test_a_family_of_each_backbone_has_a_file_of_its_own():
    runs = small_study(backbones=["tiny", "mid"])
    runs.loc[runs["backbone"] == "tiny", "backbone_family"] = "t5"
    figure = gap_by_scale.figure(analyze(runs, NO_CURVES, allow_holes=True))
    assert set(figure.views) == {"gap_by_scale_bert", "gap_by_scale_t5"}
    assert set(itertools.chain(*(v.values() for v in figure.views.values()))) == {"bert", "t5"}


def test_all_scales_have_a_place_in_every_figure():
    a = analyze(small_study(backbones=list(SIZES)), NO_CURVES, allow_holes=True)
    for module in (gap_by_scale, structure, score_by_budget, thresholds):
        assert {r["backbone"] for r in module.figure(a).rows} >= set(SIZES)
