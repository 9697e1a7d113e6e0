"""Planted studies in which a claim of the paper is false, true or not to be decided, and what its rule says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apet.analysis.claims.convergence import TimePairs, convergence_row
from apet.analysis.claims.gap import GapCells, gap_row
from apet.analysis.claims.structure import Spreads, structure_row
from apet.analysis.claims.thresholds import HIGH_FALLS, LOW_SAME, falling_view, same_range_view
from apet.analysis.claims.transfer import TransferGains, transfer_row
from apet.analysis.claims.verdict import SUPPORTED, ClaimRow, holm
from apet.analysis.intervals import Floats
from planted_studies import Noise, ceiling, observed, sizes, with_odds_ratio

Truth = Literal["false", "true", "not decidable"]
METHODS = ("prompt", "bitfit", "lora", "adapter")
NUM_TASKS, NUM_COUNTS, BASE = 5, 2, 0.5
PLAIN = Noise()


@dataclass(frozen=True)
class Scenario:
    """Planted studies of one kind.

    Attributes:
        claim: which of the six.
        name: what is planted.
        truth: whether the claim is true of it.
        rows: number of studies, first of their seeds -> the rows of the claim in each, after Holm's correction.
    """

    claim: str
    name: str
    truth: Truth
    rows: Callable[[int, int], list[list[ClaimRow]]]

    def supported(self, num_draws: int, seed: int = 0) -> float:
        """Share of studies of which any row is called supported."""
        return float(np.mean([any(r.verdict == SUPPORTED for r in rows) for rows in self.rows(num_draws, seed)]))


def _gap_studies(
    full: Floats, own: Floats, equal: Floats | None, noise: Noise = PLAIN
) -> Callable[[int, int], list[list[ClaimRow]]]:
    """Studies of four methods.

    Args:
        full: (scales, tasks).
        own: gap in log odds at own N, (scales, tasks, methods).
        equal: at equal N, (scales, tasks, methods, counts); None = not run.
        noise: beside the truth.

    Returns:
        Draws of the claim's rows.
    """
    num_scales, num_tasks = full.shape
    arms = [full[..., None], with_odds_ratio(full[..., None], own)]
    if equal is not None:
        arms.append(with_odds_ratio(full[..., None, None], equal).reshape(num_scales, num_tasks, -1))
    truth, x = np.concatenate(arms, axis=-1), sizes(num_scales)
    tasks = tuple(f"task{j}" for j in range(num_tasks))
    shape = (num_scales, num_tasks)

    def cells(means: Floats, arm: int, counts: Floats) -> GapCells:
        return GapCells(
            full=means[..., 0],
            method=means[..., arm],
            base=np.full(shape, BASE),
            num_items=np.full(shape, float(noise.num_items)),
            names=tasks,
            counts=np.repeat(counts[:, None], num_tasks, axis=1),
        )

    def study(means: Floats) -> list[ClaimRow]:
        growing, same = 10 ** (x - 2), np.full(num_scales, 1000.0)
        owns = [cells(means, 1 + m, growing) for m in range(len(METHODS))]
        equals: list[GapCells | None] = [None] * len(METHODS)
        if equal is not None:
            first, counts = 1 + len(METHODS), equal.shape[-1]
            equals = [
                GapCells.joined([cells(means, first + m * counts + c, same) for c in range(counts)])
                for m in range(len(METHODS))
            ]
        rows = [gap_row("t5", m, x, o, e) for m, o, e in zip(METHODS, owns, equals, strict=True)]
        all_equal = None if equal is None else GapCells.joined([e for e in equals if e is not None])
        return holm([gap_row("t5", "mean of 4 methods", x, GapCells.joined(owns), all_equal), *rows])

    def draw(num_draws: int, seed: int) -> list[list[ClaimRow]]:
        return [study(m) for m in observed(truth, num_draws, 3, noise, seed).mean(axis=-1)]

    return draw


def _odds_of_points(full: Floats, points: Floats | float) -> Floats:
    """Gap in log odds that is so many points of score."""
    method = full - points
    return np.asarray(np.log(full / (1 - full)) - np.log(method / (1 - method)))


def _each(gap: Floats, *more: int) -> Floats:
    """The same gap, with unlike sizes, for each method (and count)."""
    unlike = np.linspace(0.8, 1.2, more[0]).reshape(-1, *[1] * (len(more) - 1))
    return np.asarray(gap[(...,) + (None,) * len(more)] * np.broadcast_to(unlike, more))


def gap_scenarios(num_scales: int) -> list[Scenario]:
    """The gap to full fine-tuning shrinks with scale."""
    claim, m, c = "gap", len(METHODS), NUM_COUNTS
    rising, flat = ceiling(num_scales, NUM_TASKS), ceiling(num_scales, NUM_TASKS, 0.85, 0.85)
    steep = ceiling(num_scales, NUM_TASKS, 0.75, 0.975)
    shape = (num_scales, NUM_TASKS)
    closing = np.broadcast_to(np.linspace(0.8, 0.15, num_scales)[:, None], shape)
    constant = np.full(shape, 0.5)

    def both(full: Floats, gap: Floats, noise: Noise = PLAIN) -> Callable[[int, int], list[list[ClaimRow]]]:
        return _gap_studies(full, _each(gap, m), _each(gap, m, c), noise)

    heavy = Noise(tails=3)
    return [
        Scenario(claim, "constant gap in points, flat ceiling", "false", both(flat, _odds_of_points(flat, 0.05))),
        Scenario(claim, "constant gap in points, rising ceiling", "false", both(rising, _odds_of_points(rising, 0.05))),
        Scenario(claim, "constant odds ratio, rising ceiling", "false", both(rising, constant)),
        Scenario(claim, "constant odds ratio, ceiling beyond 97 %", "false", both(steep, constant)),
        Scenario(
            claim, "constant gap in points, ceiling beyond 97 %", "false", both(steep, _odds_of_points(steep, 0.02))
        ),
        Scenario(claim, "constant gap, heavy-tailed scatter (t, 3)", "false", both(flat, constant, heavy)),
        Scenario(
            claim,
            "gap of N alone",
            "false",
            _gap_studies(flat, _each(closing, m), np.broadcast_to([0.6, 0.4], (*shape, m, c))),
        ),
        Scenario(claim, "gap of N alone, only own N run", "false", _gap_studies(flat, _each(closing, m), None)),
        Scenario(
            claim,
            "nothing learnt",
            "false",
            _gap_studies(np.full(shape, 0.505), np.zeros((*shape, m)), np.zeros((*shape, m, c))),
        ),
        Scenario(claim, "odds ratio that closes from 0.8 to 0.15, flat ceiling", "true", both(flat, closing)),
        Scenario(claim, "odds ratio that closes from 0.8 to 0.15, rising ceiling", "true", both(rising, closing)),
    ]


def structure_scenarios(num_scales: int) -> list[Scenario]:
    """Structure matters less as the backbone grows."""
    x = sizes(num_scales)
    rising, flat = ceiling(num_scales, NUM_TASKS), ceiling(num_scales, NUM_TASKS, 0.85, 0.85)
    offsets = np.array([0.5, 0.1, -0.2, -0.4])
    shape = (num_scales, NUM_TASKS)
    fading = np.linspace(1.0, 0.1, num_scales)[:, None]
    falling_noise = np.linspace(0.3, 0.05, num_scales)

    def studies(
        level: Floats, own: Floats, equal: Floats | None, seed_sd: Floats | None = None, points: bool = False
    ) -> Callable[[int, int], list[list[ClaimRow]]]:
        """Four structures about a level; ``own`` and ``equal`` scale what lies between them, (scales, tasks)."""

        def truth(amount: Floats) -> Floats:
            apart = np.broadcast_to(amount, shape)[..., None] * offsets
            return (
                np.clip(level[..., None] + 0.1 * apart, 0.01, 0.99)
                if points
                else with_odds_ratio(level[..., None], apart)
            )

        def spreads(amount: Floats, num_draws: int, seed: int) -> list[Spreads]:
            scores = observed(truth(amount), num_draws, 3, PLAIN, seed, seed_sd)
            return [Spreads.of(one, PLAIN.num_items, np.full(shape, BASE)) for one in scores]

        def draw(num_draws: int, seed: int) -> list[list[ClaimRow]]:
            owns = spreads(own, num_draws, seed)
            equals = [None] * num_draws if equal is None else spreads(equal, num_draws, seed + 10_000)
            return [holm([structure_row("t5", "4 structures", x, o, e)]) for o, e in zip(owns, equals, strict=True)]

        return draw

    one = np.ones((num_scales, 1))
    claim = "structure"
    return [
        Scenario(claim, "constant spread in log odds, flat", "false", studies(flat, one, one)),
        Scenario(claim, "constant spread in log odds, rising scores", "false", studies(rising, one, one)),
        Scenario(claim, "constant spread in points, rising scores", "false", studies(rising, one, one, points=True)),
        Scenario(
            claim,
            "no structure matters, seeds scatter less at scale",
            "false",
            studies(flat, 0 * one, 0 * one, falling_noise),
        ),
        Scenario(
            claim, "constant spread, seeds scatter less at scale", "false", studies(flat, one, one, falling_noise)
        ),
        Scenario(claim, "spread of N alone", "false", studies(flat, fading, one)),
        Scenario(claim, "spread of N alone, only own N run", "false", studies(flat, fading, None)),
        Scenario(claim, "nothing learnt", "false", studies(np.full(shape, 0.505), 0 * one, 0 * one)),
        Scenario(claim, "spread that fades to a tenth, flat", "true", studies(flat, fading, fading)),
        Scenario(claim, "spread that fades to a tenth, rising scores", "true", studies(rising, fading, fading)),
    ]


def threshold_scenarios(num_scales: int) -> list[Scenario]:
    """The high threshold falls with scale, and the low thresholds lie within a factor of ten.

    Posteriors are drawn as the budget curve gives them: normal about an estimate that has their error, cut off at the
    counts tried.
    """
    x = sizes(num_scales)
    smallest, largest, num_posterior = 1.0, 5.0, 400
    tasks = range(NUM_TASKS)

    def posteriors(truth: Floats, error: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draws of thresholds as bounds, (thresholds, draws), medians over tasks; the truth is (thresholds, tasks)."""
        estimates = truth + error * rng.standard_normal(truth.shape)
        draws = estimates[..., None] + error * rng.standard_normal((*truth.shape, num_posterior))
        low = np.where(draws < smallest, 0.0, np.minimum(draws, largest))
        high = np.where(draws > largest, np.inf, np.maximum(draws, smallest))
        return np.median(low, axis=1), np.median(high, axis=1)

    def falls(start: float, slope: float, scatter: float, error: float) -> Callable[[int, int], list[list[ClaimRow]]]:
        def study(rng: np.random.Generator) -> list[ClaimRow]:
            rows = []
            for method in ("lora", "apet-adjacent", "apet-discrete"):
                by_scale = start + slope * (x - x[0]) + scatter * rng.standard_normal(num_scales)
                truth = by_scale[:, None] + scatter * rng.standard_normal((num_scales, NUM_TASKS))
                view = falling_view(x, *posteriors(truth, error, rng), tasks)
                rows.append(ClaimRow.of(HIGH_FALLS, "t5", method, [view]))
            return holm(rows)

        return lambda num_draws, seed: [study(np.random.default_rng([seed, d])) for d in range(num_draws)]

    def same(factor: float, center: float = 2.5) -> Callable[[int, int], list[list[ClaimRow]]]:
        apart = np.log10(factor) * np.array([-0.5, 0.0, 0.5])[:, None]

        def study(rng: np.random.Generator) -> list[ClaimRow]:
            rows = []
            for s in range(num_scales):
                # the tasks' scatter is part of what the claim is about: its mean is what is planted
                truth = center + apart + np.linspace(-0.3, 0.3, NUM_TASKS)
                view = same_range_view(*posteriors(truth, 0.2, rng), tasks)
                rows.append(ClaimRow.of(LOW_SAME, f"s{s}", "3 methods", [view]))
            return holm(rows)

        return lambda num_draws, seed: [study(np.random.default_rng([seed, d])) for d in range(num_draws)]

    high, low = "high threshold", "low thresholds"
    return [
        Scenario(high, "no slope", "false", falls(3.0, 0.0, 0.15, 0.15)),
        Scenario(high, "no slope, wide posteriors", "false", falls(3.0, 0.0, 0.15, 0.6)),
        Scenario(high, "no slope, scales scatter by a factor of 3", "false", falls(3.0, 0.0, 0.5, 0.15)),
        Scenario(high, "no slope, half beyond the counts tried", "false", falls(5.0, 0.0, 0.2, 0.2)),
        Scenario(high, "rises with scale", "false", falls(2.5, 0.5, 0.15, 0.15)),
        Scenario(high, "never reached", "false", falls(7.0, 0.0, 0.15, 0.15)),
        Scenario(high, "falls by 0.6 per tenfold", "true", falls(4.0, -0.6, 0.15, 0.15)),
        Scenario(low, "factor of 12", "false", same(12.0)),
        Scenario(low, "factor of 100", "false", same(100.0)),
        Scenario(low, "never above the baseline", "false", same(1.0, 7.0)),
        Scenario(low, "factor of 2", "true", same(2.0)),
    ]


def convergence_scenarios() -> list[Scenario]:
    """Adjacent converges in fewer steps than discrete."""
    even, log_spaced = np.arange(0, 401, 25.0), np.unique(np.round(np.geomspace(1, 400, 25)))
    num_counts, num_seeds = 4, 3
    claim = "convergence"

    def studies(
        speedup: float, steps: Floats, start: float = 6.0, mask: float = 0.2, task: float = 0.2, run: float = 0.3
    ) -> Callable[[int, int], list[list[ClaimRow]]]:
        """Times in log2; ``speedup`` of adjacent, scatter by mask, by task and by run."""

        def study(rng: np.random.Generator) -> list[ClaimRow]:
            rows = []
            for backbone in range(4):
                shape = (2, NUM_TASKS, num_counts, num_seeds)
                log2 = start + run * rng.standard_normal(shape) + mask * rng.standard_normal((2, 1, *shape[2:]))
                log2 = log2 + task * rng.standard_normal((1, NUM_TASKS, num_counts, 1))
                log2[0] -= speedup
                place = np.searchsorted(steps, 2**log2)
                high = np.append(steps, np.inf)[place].reshape(2, -1)
                low = np.where(place > 0, steps[np.maximum(place - 1, 0)], 0.0).reshape(2, -1)
                units = np.broadcast_to(np.arange(num_counts * num_seeds).reshape(num_counts, num_seeds), shape[1:])
                pairs = TimePairs(low[0], high[0], low[1], high[1], units.ravel().astype(float))
                rows.append(convergence_row(f"s{backbone}", pairs, pairs))
            return holm(rows)

        return lambda num_draws, seed: [study(np.random.default_rng([seed, d])) for d in range(num_draws)]

    return [
        Scenario(claim, "equal speed, even evaluations", "false", studies(0.0, even)),
        Scenario(claim, "equal speed, log-spaced evaluations", "false", studies(0.0, log_spaced)),
        Scenario(claim, "equal speed, half never arrive", "false", studies(0.0, even, start=8.6)),
        Scenario(claim, "equal speed, masks scatter", "false", studies(0.0, log_spaced, mask=0.6)),
        Scenario(claim, "nobody arrives", "false", studies(0.0, even, start=14.0)),
        Scenario(claim, "discrete faster", "false", studies(-0.5, log_spaced)),
        Scenario(claim, "adjacent takes 0.7 of the steps, log-spaced evaluations", "true", studies(0.5, log_spaced)),
        Scenario(
            claim, "adjacent takes 0.7 of the steps, half never arrive", "true", studies(0.5, log_spaced, start=8.9)
        ),
    ]


def transfer_scenarios() -> list[Scenario]:
    """Transfer works within a category and less across."""
    claim = "transfer"
    eight, five = ("SA",) * 3 + ("NLI",) * 3 + ("PI",) * 2, ("SA", "SA", "NLI", "NLI", "PI")

    def studies(within: float, categories: tuple[str, ...]) -> Callable[[int, int], list[list[ClaimRow]]]:
        labels = np.array(categories)
        n = len(labels)
        same = labels[:, None] == labels

        def study(rng: np.random.Generator) -> list[ClaimRow]:
            rows = []
            for backbone in range(4):
                gains = 0.3 + within * same + 0.2 * rng.standard_normal((n, n))
                gains = gains + 0.15 * rng.standard_normal((n, 1)) + 0.15 * rng.standard_normal((1, n))
                by_seed = gains + 0.05 * rng.standard_normal((3, n, n))
                by_seed[:, np.eye(n, dtype=bool)] = np.nan
                row = transfer_row(
                    f"s{backbone}", "lora", TransferGains(tuple(map(str, range(n))), categories, by_seed)
                )
                assert row is not None
                rows.append(row)
            return holm(rows)

        return lambda num_draws, seed: [study(np.random.default_rng([seed, d])) for d in range(num_draws)]

    return [
        Scenario(claim, "no category effect, 8 tasks", "false", studies(0.0, eight)),
        Scenario(claim, "better across, 8 tasks", "false", studies(-0.3, eight)),
        Scenario(claim, "no category effect, 5 tasks", "not decidable", studies(0.0, five)),
        Scenario(claim, "within better by half, 5 tasks", "not decidable", studies(0.5, five)),
        Scenario(claim, "within better by half, 8 tasks", "true", studies(0.5, eight)),
    ]


def two_scale_scenarios() -> list[Scenario]:
    """Whatever two scales show: true effects, which a rule on three would support."""
    by_claim = {s.claim: s for s in (*gap_scenarios(2), *structure_scenarios(2)) if s.truth == "true"}
    by_claim["high threshold"] = next(s for s in threshold_scenarios(2) if s.truth == "true")
    return [Scenario(c, f"two scales: {s.name}", "not decidable", s.rows) for c, s in by_claim.items()]


def all_scenarios(num_scales: int) -> list[Scenario]:
    """Of every claim."""
    return [
        *gap_scenarios(num_scales),
        *structure_scenarios(num_scales),
        *threshold_scenarios(num_scales),
        *convergence_scenarios(),
        *transfer_scenarios(),
        *two_scale_scenarios(),
    ]


def binomial_limit(num_draws: int, rate: float = 0.05) -> float:
    """Share that a rule with that rate exceeds in one of a thousand simulations."""
    from scipy import stats

    return float(stats.binom.ppf(0.999, num_draws, rate)) / num_draws
