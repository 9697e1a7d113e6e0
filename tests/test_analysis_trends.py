"""Each claim of the paper, planted true, planted false and planted too noisy to tell: the verdict says which."""

import math

import numpy as np
import pytest

from apet.analysis.board import Board, Scale
from apet.analysis.convergence import convergences, races
from apet.analysis.frames import checked_curves
from apet.analysis.gaps import gaps
from apet.analysis.levels import levels
from apet.analysis.thresholds import Bracket, Threshold, thresholds
from apet.analysis.transfer import relatives
from apet.analysis.trends import (
    adjacent_faster,
    below_zero,
    gap_shrinks,
    high_falls,
    low_same,
    slope_bounds,
    transfer_within,
)
from planted import SIZES, curves, study, transfer

YES, NO, OPEN = "supported", "not supported", "not decidable with these runs"


def planted_gap(by_backbone):
    return lambda method, backbone, n: 0.9 - (0 if method == "fine-tuning" else by_backbone[backbone])


@pytest.mark.parametrize(
    ("by_backbone", "sd", "verdict"),
    [
        ({"tiny": 0.06, "mid": 0.04, "large": 0.02}, 0.002, YES),
        ({"tiny": 0.02, "mid": 0.04, "large": 0.06}, 0.002, NO),
        ({"tiny": 0.04, "mid": 0.04, "large": 0.04}, 0.001, NO),
        ({"tiny": 0.05, "mid": 0.045, "large": 0.04}, 0.06, OPEN),
    ],
)
def test_does_the_gap_shrink(by_backbone, sd, verdict):
    board = Board.of(study(3, sd=sd, planted=planted_gap(by_backbone)))
    together = gap_shrinks(gaps(board))[0]
    assert (together.where, together.what) == ("bert", "mean of 6 methods")
    assert together.verdict == verdict
    if verdict == YES:
        assert together.low < -2 < together.high
        assert together.value == pytest.approx(-2, abs=0.3)


def test_one_scale_says_nothing_about_scale():
    assert gap_shrinks(gaps(Board.of(study(3, backbones=["mid"])))) == []


def test_two_scales_of_one_seed_have_no_freedom_left():
    assert {t.verdict for t in gap_shrinks(gaps(Board.of(study(1, backbones=["tiny", "mid"]))))} == {OPEN}


def planted_high(by_backbone):
    def level(method, backbone, n):
        return 0.9 if method == "fine-tuning" or n >= by_backbone[backbone] else 0.7

    return level


@pytest.mark.parametrize(
    ("by_backbone", "verdict"),
    [
        ({"tiny": 16_384, "mid": 4_096, "large": 256}, YES),
        ({"tiny": 256, "mid": 1_024, "large": 16_384}, NO),
        ({"tiny": 1_024, "mid": 1_024, "large": 1_024}, OPEN),
        ({"tiny": 10**9, "mid": 1_024, "large": 256}, YES),
        ({"tiny": 256, "mid": 1_024, "large": 10**9}, NO),
    ],
)
def test_does_the_high_threshold_fall(by_backbone, verdict):
    found = high_falls(thresholds(levels(Board.of(study(3, planted=planted_high(by_backbone))))))
    assert {t.what: t.verdict for t in found}["apet-adjacent"] == verdict


def test_slope_bounds_are_the_extremes_over_all_points_in_the_ranges():
    x, low, high = np.array([5.0, 6.0, 7.0]), np.array([2.0, 1.0, 1.0]), np.array([3.0, 2.0, 1.5])
    corners = [
        np.polyfit(x, [low[0] if a else high[0], low[1] if b else high[1], low[2] if c else high[2]], 1)[0]
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, 1)
    ]
    assert slope_bounds(x, low, high) == pytest.approx((min(corners), max(corners)))


def low_at(method, above, reached):
    return Threshold(
        Scale("mid", "bert", 10**6),
        "films",
        method,
        "low",
        Bracket(above, reached, 0, True),
        (1, 2),
        ("fails", "passes"),
        3,
        "seeds",
    )


@pytest.mark.parametrize(
    ("ranges", "verdict", "factor"),
    [
        ([(64, 128), (128, 256)], YES, (1, 4)),
        ([(64, 128), (4_096, 8_192)], NO, (32, 128)),
        ([(64, 1_024), (64, 1_024)], OPEN, (1, 16)),
        ([(64, 128), (64, math.inf)], OPEN, (1, math.inf)),
    ],
)
def test_are_the_low_thresholds_the_same(ranges, verdict, factor):
    found = low_same([low_at(m, *r) for m, r in zip(("lora", "prompt"), ranges, strict=True)])
    assert [t.verdict for t in found] == [verdict]
    assert (found[0].low, found[0].high) == pytest.approx(factor)


@pytest.mark.parametrize(("adjacent", "discrete", "verdict"), [(10.0, 20.0, YES), (20.0, 10.0, NO), (15.0, 15.0, NO)])
def test_does_adjacent_converge_faster(adjacent, discrete, verdict):
    board = Board.of(study(3))
    half = {"apet-adjacent": adjacent, "apet-discrete": discrete}
    made = checked_curves(curves(board.runs, lambda m: half.get(m, 15.0)), board.runs)
    found = adjacent_faster(races(board, convergences(board, made)))
    assert [t.where for t in found] == list(SIZES)
    assert {t.verdict for t in found} == {verdict}


@pytest.mark.parametrize(("within", "across", "verdict"), [(0.6, 0.4, YES), (0.4, 0.6, NO), (0.5, 0.5, NO)])
def test_does_transfer_work_within_a_category(within, across, verdict):
    found = transfer_within(relatives(transfer(within=within, across=across)), Board.of(study(1)))
    assert [t.verdict for t in found] == [verdict]


def test_verdicts_leave_no_gap():
    assert below_zero(-2, -1, 0.5) == YES
    assert below_zero(-0.4, 1, 0.5) == NO
    assert below_zero(-2, 1, 0.5) == OPEN
