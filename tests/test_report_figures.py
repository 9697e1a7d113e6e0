"""Printed figures and those of the page: what fits, is open, rests on one seed, and what stands behind a point."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from apet.analysis.curve_values import ThresholdAnswer
from apet.analysis.study import Analysis, analyze
from apet.reporting.figures import (
    convergence,
    gap_by_scale,
    log_axis,
    marks,
    plotly_data,
    score_by_budget,
    sheet,
    structure,
    thresholds,
)
from apet.reporting.formatting import MEAN_OVER_TASKS
from apet.reporting.style import method_style
from synthetic_results import SIZES, curves, failing, study, transfer

NO_CURVES = pd.DataFrame(columns=["run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds"])
LONG = {"tiny": "a-backbone-with-a-rather-long-name-tiny", "mid": "another backbone with a long name mid"}


def small_study(**more) -> pd.DataFrame:
    return study(**({"seeds": 2, "tasks": ["films", "claims"], "backbones": ["tiny", "mid"], "sd": 0.005} | more))


def analyzed(runs: pd.DataFrame, **more) -> Analysis:
    half_life = {"apet-adjacent": 10.0, "apet-discrete": 20.0}
    return analyze(runs, curves(runs, lambda m: half_life.get(m, 15.0)), allow_holes=True, **more)


@pytest.fixture(scope="module")
def two_seeds() -> Analysis:
    return analyzed(small_study())


@pytest.fixture(scope="module")
def one_seed() -> Analysis:
    return analyzed(small_study(seeds=1))


@pytest.fixture(scope="module")
def incomplete() -> Analysis:
    """The second seed of LoRA on films is missing."""
    runs = small_study(backbones=["mid"])
    index = runs.index.get_loc(
        runs.index[(runs["method"] == "lora") & (runs["task"] == "films") & (runs["seed"] == 1)][0]
    )
    return analyzed(failing(runs, index))


def drawn(module, a: Analysis, partial: bool = False):
    with sheet.drawing_style():
        return next(iter(module.draw(a, partial).values()))


def legend(figure) -> list[str]:
    return [t.get_text() for box in figure.legends for t in box.get_texts()]


def outside(figure, texts) -> list[str]:
    """Those that stick out of the figure."""
    figure.canvas.draw()
    whole = figure.bbox
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text()]
    return [s for s, b in boxes if b.x0 < -1 or b.x1 > whole.x1 + 1 or b.y0 < -1 or b.y1 > whole.y1 + 1]


@pytest.mark.parametrize("backbones", [["mid"], ["tiny", "mid"], list(SIZES)])
def test_every_title_fits_its_figure_and_a_panels_title_its_panel(backbones):
    runs = small_study(backbones=backbones)
    runs["backbone"] = runs["backbone"].replace(LONG)
    runs["family"] = "a family with a name that is longer than a panel of its figure is wide, by some words"
    a = analyzed(runs)
    with sheet.drawing_style():
        for module in (gap_by_scale, structure, convergence, score_by_budget, thresholds):
            for name, figure in module.draw(a, True).items():
                shown = [x for x in figure.axes if x.get_visible()]
                titles = [t for x in shown for t in (x.title, x._left_title) if t.get_text()]
                assert (
                    outside(figure, [*figure.texts, *titles, *(t for g in figure.legends for t in g.get_texts())]) == []
                )
                assert sheet.PARTIAL_STUDY in figure.texts[0].get_text(), name
                for x, t in ((x, x._left_title) for x in shown):
                    assert t.get_window_extent().width <= x.get_window_extent().width + 2, t.get_text()
                above = figure.texts[0].get_window_extent().y0
                assert all(t.get_window_extent().y1 <= above for t in titles), name


def test_a_word_wider_than_the_figure_is_set_smaller():
    runs = small_study(backbones=["mid"])
    runs["backbone"] = "b" * 120
    figure = drawn(score_by_budget, analyzed(runs), True)
    assert outside(figure, figure.texts) == []


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (28, 955, [50, 100, 200, 500]),
        (60, 1700, [100, 200, 500, 1000]),
        (30, 99, [50]),
        (90, 99_999, [100, 1_000, 10_000]),
        (210, 480, [300, 400]),
        (4_100, 4_900, None),
        (1, 1e12, None),
    ],
)
def test_a_logarithmic_axis_has_two_labelled_ticks_or_more(low, high, ticks):
    figure, axes = sheet.panels(1, 1)
    axis = axes[0][0]
    axis.set_xlim(low, high)
    log_axis.log_count_axis(axis, "items")
    axis.set_xlim(low, high)
    figure.canvas.draw()
    seen = [
        t
        for t, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
        if low <= t <= high and label.get_text()
    ]
    assert 2 <= len(seen) <= 9
    if ticks is not None and len(ticks) > 1:
        assert seen == pytest.approx(ticks)


def dashed(collections) -> list:
    return [c for c in collections if c.get_linestyle() != [(0.0, None)]]


@pytest.mark.parametrize("module", [gap_by_scale, structure, score_by_budget])
def test_of_one_seed_the_interval_over_the_items_is_drawn_thin_and_dashed_and_the_legend_says_so(
    module, one_seed, two_seeds
):
    figure = drawn(module, one_seed)
    axis = figure.axes[0]
    whiskers = dashed(axis.collections)
    assert len(whiskers) >= 6
    assert all(w.get_linewidth()[0] < 1 for w in whiskers)
    segment = whiskers[0].get_segments()[0]
    assert segment[1][1] - segment[0][1] > 0.5  # percent: the items' interval of a run is ± 1, of two tasks' mean less
    assert marks.ONE_SEED in legend(figure)
    several = drawn(module, two_seeds)
    assert dashed(several.axes[0].collections) == []
    assert marks.ONE_SEED not in legend(several)


def test_numbers_that_miss_planned_runs_are_hollow_as_markers_and_as_bars_and_the_legend_says_so(incomplete, two_seeds):
    points = drawn(gap_by_scale, incomplete)
    hollow = [x for x in points.axes[0].lines if x.get_markerfacecolor() == "white"]
    assert [x.get_marker() for x in hollow] == ["D"]  # LoRA's alone
    bars = drawn(structure, incomplete)
    faces = {p.get_edgecolor(): p.get_facecolor() for p in bars.axes[0].patches if p.get_facecolor() == (1, 1, 1, 1)}
    assert len(faces) == 3  # all sides are taken over the tasks and seeds that all three have
    for figure in (points, bars):
        assert marks.INCOMPLETE in legend(figure)
    for module in (gap_by_scale, structure):
        assert marks.INCOMPLETE not in legend(drawn(module, two_seeds))


def test_the_vertical_lines_of_convergence_say_which_runs_they_stand_for(two_seeds):
    figure = drawn(convergence, two_seeds)
    assert any("mean of these tasks and seeds, converged or not" in s for s in legend(figure))
    assert any("mean steps of the pairs in which both converged" in s for s in legend(figure))
    assert "2 tasks, 2 seeds; converged: 4 of 4" in figure.axes[0].get_title(loc="left").replace("\n", " ")


def test_both_distributions_are_averaged_over_the_same_tasks_and_seeds():
    def easy(method, backbone, n):
        return 0.8 if method == "apet-adjacent" else 0.7

    runs = small_study(backbones=["mid"], seeds=3, sd=0, true_score=easy)
    runs.loc[runs["task"] == "claims", "score"] -= 0.15  # claims are hard
    runs[["ci_low", "ci_high"]] = np.stack([runs["score"] - 0.01, runs["score"] + 0.01], axis=1)
    n = 4_096
    gone = (runs["num_trainable"] == n) & (
        ((runs["method"] == "apet-discrete") & (runs["task"] == "claims") & (runs["seed"] == 2))
        | ((runs["method"] == "apet-adjacent") & (runs["task"] == "films") & (runs["seed"] == 1))
    )
    a = analyzed(runs[~gone])
    m = convergence.mean_curves(a, a.data.scales[0], n, ("apet-adjacent", "apet-discrete"))
    assert (m.num_tasks, m.num_seeds) == (
        2,
        1,
    )  # of seeds 0, 1 and 2, the first alone has both tasks in both distributions
    ends = {k: mean[-1] for k, (mean, _, _) in m.by_method.items()}
    assert ends["apet-adjacent"] - ends["apet-discrete"] == pytest.approx(
        0.1, abs=1e-3
    )  # over other tasks it would be 0.15 off


def test_where_no_seed_has_every_task_tasks_go_and_the_bands_stay_within_what_can_be():
    assert convergence._common_tasks_and_seeds({("a", 0), ("a", 1), ("b", 2), ("c", 0), ("c", 1)}) == (
        ["a", "c"],
        [0, 1],
    )
    a = analyzed(small_study(backbones=["mid"], sd=0.2))
    _, low, high = convergence.mean_curves(a, a.data.scales[0], 4_096, ("apet-adjacent", "apet-discrete")).by_method[
        "apet-adjacent"
    ]
    assert low.min() >= 0
    assert high.max() <= 1


def lines_of(lower: float, upper: float):
    """What the figure of thresholds draws for one range."""
    answer = ThresholdAnswer("low", "between", lower, lower, upper, 100, 10_000)
    t = SimpleNamespace(answer=answer, tried=(100, 1_000, 10_000))
    _, axes = sheet.panels(1, 1)
    thresholds._draw_row(axes[0][0], 0, [t], "lora")
    return axes[0][0].lines


def test_an_open_end_looks_open_and_is_no_bar():
    bars = [x for x in lines_of(100, 1_000) if x.get_linewidth() > 2]
    assert [tuple(x.get_xdata()) for x in bars] == [(100, 1_000)]
    lines = lines_of(100, math.inf)
    through = [x for x in lines if len(x.get_xdata()) == 2]
    assert all(x.get_linewidth() < 2 and x.get_linestyle() == "--" for x in through)
    assert max(x.get_xdata()[1] for x in through) > 10_000
    heads = [x for x in lines if len(x.get_xdata()) == 1]
    assert all(x.get_markerfacecolor() == "white" for x in heads)  # also in gray: nothing filled


@pytest.mark.parametrize(
    ("state", "lower", "upper", "symbol"),
    [
        ("below the smallest N", 0.0, 100.0, "triangle-left-open"),
        ("above the largest N", 10_000.0, math.inf, "triangle-right-open"),
    ],
)
def test_a_threshold_beyond_all_counts_is_an_arrow_and_no_point(state, lower, upper, symbol):
    """At the smallest count stood the method's own symbol, as if the threshold were there."""
    answer = ThresholdAnswer("low", state, lower, lower, upper, 100, 10_000)
    named = {"method": "lora", "scale": SimpleNamespace(name="tiny"), "task": None, "kind": "low", "seeds": 1}
    trace = thresholds._range_trace(
        SimpleNamespace(answer=answer, tried=(100, 1_000, 10_000), **named), lambda t, n: f"at {n}"
    )
    assert trace["marker"]["symbol"] == [symbol, symbol]
    assert trace["line"]["dash"] == "dash"
    heads = [x for x in lines_of(lower, upper) if len(x.get_xdata()) == 1]
    assert all(x.get_markerfacecolor() == "white" for x in heads)


def test_the_figure_of_thresholds_says_what_dashes_and_bars_mean(two_seeds):
    figure = drawn(thresholds, two_seeds)
    assert "range that holds the threshold" in legend(figure)
    assert "open: the counts tried do not settle this end" in legend(figure)
    assert "dashed: open" in figure.texts[1].get_text().replace("\n", " ")


def texts(figure: plotly_data.InteractiveFigure, plot: str, method: str) -> list[str]:
    lists = [t["text"] for t in figure.plots[plot]["data"] if t["meta"] == method and t["text"]]
    return [text.replace("<br>", "\n") for texts_of_trace in lists for text in texts_of_trace]


@pytest.mark.parametrize(
    ("module", "plot", "head"),
    [
        (gap_by_scale, "score|bert|films", "LoRA on tiny\nN = 4,096"),
        (structure, "tiny|films", "LoRA on tiny, N = 4,096"),
        (score_by_budget, "tiny|films", "LoRA, N = 4,096 (4.1 %)\non tiny"),
    ],
)
def test_a_hover_says_what_stands_behind_a_point(module, plot, head, one_seed, two_seeds):
    several = texts(module.interactive_figure(two_seeds), plot, "lora")[0]
    assert several.startswith(head)
    assert "\nseeds (n = 2, sd " in several
    assert "own intervals (n = 1,000): " in several
    assert "\nfilms\nseeds 0, 1" in several
    assert "\nrun " not in several
    single = texts(module.interactive_figure(one_seed), plot, "lora")[0]
    assert "\nfilms\nseed 0\nrun tiny-films-lora-4096-0" in single


def test_a_hover_of_a_mean_says_over_how_many_tasks_and_which_seeds_it_leaves_out(incomplete):
    hover = texts(gap_by_scale.interactive_figure(incomplete), f"gap|bert|{MEAN_OVER_TASKS}", "lora")[0]
    assert "points\n" in hover
    assert "mean over tasks: 2 tasks\n1 seed of 0, 1" in hover
    assert "planned numbers missing" in hover


def test_a_hover_of_a_threshold_says_where_it_lies_and_what_it_rests_on(two_seeds):
    for kind in ("low", "high"):
        for hover in texts(thresholds.interactive_figure(two_seeds), f"{kind}|films", "apet-adjacent"):
            assert "APET-adjacent on " in hover
            assert f"\n{kind} threshold: " in hover
            assert "counts tried, 64 to 16,384; 2 seeds or more" in hover
            assert "\nat N = " in hover
            assert "\nseeds (n = 2" in hover
            assert "\nfilms\nseeds 0, 1" in hover
    low = texts(thresholds.interactive_figure(two_seeds), "low|films", "apet-adjacent")
    assert any(": about " in s for s in low)


def test_on_the_page_too_one_seed_has_thin_whiskers_and_missing_runs_are_hollow(one_seed, incomplete):
    data = gap_by_scale.interactive_figure(one_seed).plots["score|bert|films"]["data"]
    whiskers = [t for t in data if t["meta"] == "lora" and t["mode"] == "lines"]
    assert [t["line"]["dash"] for t in whiskers] == ["dot"]
    assert whiskers[0]["x"] == [100_000, 100_000, None, 1_000_000, 1_000_000, None]
    bar = next(t for t in structure.interactive_figure(one_seed).plots["mid|films"]["data"] if t["meta"] == "lora")
    assert (bar["error_y"]["width"], bar["error_y"]["array"][0] > 0) == (0, True)
    points = gap_by_scale.interactive_figure(incomplete).plots[f"score|bert|{MEAN_OVER_TASKS}"]["data"]
    assert {t["meta"]: t["marker"]["symbol"] for t in points if "markers" in t["mode"]} == {
        m: [s + "-open" * (m == "lora")] for m, s in ((t["meta"], method_style(t["meta"]).symbol) for t in points)
    }
    bars = structure.interactive_figure(incomplete).plots[f"mid|{MEAN_OVER_TASKS}"]["data"]
    assert any(t["marker"]["color"] == "#ffffff" for t in bars if t["meta"] == "lora")
    for view in (
        gap_by_scale.interactive_figure(incomplete),
        structure.interactive_figure(incomplete),
        score_by_budget.interactive_figure(incomplete),
    ):
        assert "one seed; interval over the items" in view.caption
        assert "Hollow: planned runs are missing" in view.caption


def test_groups_of_bars_keep_their_order_where_some_have_one_seed(incomplete):
    shown = structure.interactive_figure(incomplete).plots[f"mid|{MEAN_OVER_TASKS}"]
    assert shown["layout"]["xaxis"]["categoryarray"] == [
        "Prompt<br>512",
        "BitFit<br>1,024",
        "LoRA<br>4,096",
        "Adapter<br>16,384",
    ]
    placed = [(t["offsetgroup"], x) for t in shown["data"] for x in t["x"]]
    assert len(placed) == len(set(placed))  # no two bars in one place


def test_transfer_figures_fit_too():
    a = analyzed(small_study(backbones=["mid"]), transfer=transfer())
    from apet.reporting.figures import transfer as heat

    figure = drawn(heat, a, True)
    assert outside(figure, figure.texts) == []
