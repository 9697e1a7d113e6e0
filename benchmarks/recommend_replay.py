"""Recommendations held against worlds whose best answer is known: regret, time against a complete grid, test scores.

Worlds: families with drawn curves, and the runs of the micro-paper (docs/results/micropaper), whose means over seeds
are taken as true and whose single scores are what a replayed run sees. Nothing is trained; time is counted.

    PYTHONPATH=tests python benchmarks/recommend_replay.py > docs/results/recommendation.md
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from apet.analysis.curve_values import Reach
from apet.recommendation.arms import Arm, Family, Question, Trial
from apet.recommendation.decision import choose
from apet.recommendation.evidence import POINTS_PER_OCTAVE
from apet.recommendation.replay import Replay, World
from apet.recommendation.search import search
from planted_worlds import drawn_world

RUNS = Path(__file__).parents[1] / "docs" / "results" / "micropaper" / "report" / "tables" / "runs.csv"
GRID_SEEDS = 3
"""Runs of each arm in a complete grid."""
SHARE = 0.25
"""Of the grid's time that a recommendation may take."""
NUM_TEST = 1000
REACH = Reach()


@dataclass(frozen=True)
class Outcome:
    """How one replay ended.

    Attributes:
        source: planted, or which recorded runs.
        regret: points of utility lost against the best arm.
        points: points of score lost against it, none above the level to reach.
        octaves: doublings of N more (or, negative, fewer) than the best arm's.
        share: of the grid's time that was used.
        foretold: regret that the answer itself expected.
        difference: validation score of the arm minus its test score.
        width: half of the interval of that difference.
    """

    source: str
    regret: float
    points: float
    octaves: float
    share: float
    foretold: float
    difference: float
    width: float


def grid_seconds(world: World) -> float:
    """What a complete grid takes: every arm with every seed, without any search of learning rates."""
    return sum(GRID_SEEDS * world.seconds(Trial(arm, 1e-3, world.question.steps)) for arm in world.arms())


def replay(world: World, seed: int, source: str, share: float = SHARE) -> Outcome:
    """One recommendation in a world.

    Args:
        world: what is true.
        seed: of its luck.
        source: of the world.
        share: of the grid's time.

    Returns:
        What came of it.
    """
    environment = Replay(world, seed)
    budget = share * grid_seconds(world)
    ending = search(world.question, environment, REACH, budget)
    evidence = ending.known.evidence
    assert evidence is not None, f"{source}, seed {seed}: nothing was measured"
    choice, best = choose(evidence), world.best(REACH)
    level = float(REACH.level(world.base, np.array(world.score(world.question.reference_arm))))
    own = [m.score for m in ending.known.measured if m.trial.arm == choice.arm and ending.known.is_whole(m)]
    validation = float(np.mean([s for s in own if s is not None]))
    test = environment.test_score(choice.arm, 0, NUM_TEST)
    variance = validation * (1 - validation) * (1 / world.num_items + 1 / NUM_TEST) + world.seed_sd**2
    return Outcome(
        source,
        world.utility(best, REACH) - world.utility(choice.arm, REACH),
        100 * (min(level, world.score(best)) - min(level, world.score(choice.arm))),
        math.log2(choice.arm.num_trainable / best.num_trainable),
        environment.clock / grid_seconds(world),
        choice.regret,
        100 * (validation - test),
        100 * 1.96 * math.sqrt(variance),
    )


def recorded_worlds() -> Iterator[tuple[str, World]]:
    """Worlds of the recorded runs: backbones and tasks with enough counts."""
    runs = pd.read_csv(RUNS)
    runs = runs[runs["state"] == "complete"]
    for (backbone, task), group in runs.groupby(["backbone", "task"]):
        if group["num_trainable"].nunique() >= 8:
            yield f"{backbone}, {task}", recorded_world(group)


def recorded_world(runs: pd.DataFrame) -> World:
    """A world of the runs of one backbone and task."""
    by_arm = {
        Arm(str(method), int(n)): rows for (method, n), rows in runs.groupby(["method", "num_trainable"], sort=True)
    }
    scores = {arm: [float(s) for s in rows["score"]] for arm, rows in by_arm.items()}
    means = {arm: float(np.mean(s)) for arm, s in scores.items()}
    rates = {arm: float(rows["learning_rate"].iloc[0]) for arm, rows in by_arm.items()}
    times = {arm: float(rows["training_seconds"].mean()) for arm, rows in by_arm.items()}
    families = []
    for method in ("lora", "bitfit", "apet-adjacent", "apet-discrete", "adapter", "prompt"):
        arms = sorted(arm for arm in by_arm if arm.family == method)
        if arms:
            counts = tuple(arm.num_trainable for arm in arms)
            own = [a.num_trainable for a in arms if pd.isna(by_arm[a]["budget"].iloc[0])]
            families.append(Family(method, method, counts, own[0] if own else counts[-1], rates[arms[0]]))
    (full,) = [arm for arm in by_arm if arm.family == "fine-tuning"]
    reference = Family("fine-tuning", "fine-tuning", (full.num_trainable,), full.num_trainable, rates[full])
    steps = int(runs["max_steps"].iloc[0])
    spread = float(np.sqrt(np.mean([np.var(s, ddof=1) for s in scores.values() if len(s) > 1])))
    return World(
        Question(tuple(families), reference, steps),
        lambda arm: means[arm],
        lambda arm: 0.0,
        lambda trial: times[trial.arm] * trial.steps / steps,
        untrained=float(runs["score_untrained"].mean()),
        constant=float(runs["untrained_baseline"].mean()),
        seed_sd=spread,
        num_items=int(runs["num_examples"].iloc[0]),
        record=scores,
    )


def outcomes(num_planted: int, num_recorded: int, first_seed: int = 0) -> list[Outcome]:
    """Replays of planted and of recorded worlds, of seeds from the first one on."""
    seeds = range(first_seed, first_seed + num_planted)
    made = [replay(drawn_world(seed), seed, "planted") for seed in seeds]
    worlds = list(recorded_worlds())
    for number in range(num_recorded):
        source, world = worlds[number % len(worlds)]
        made.append(replay(world, first_seed + number, source))
    return made


def page(made: list[Outcome]) -> str:
    """docs/results/recommendation.md."""
    lines = [
        "# Recommendations, replayed",
        "",
        f"Made by `PYTHONPATH=tests python benchmarks/recommend_replay.py`: {len(made)} recommendations"
        " in worlds whose best answer is known, each in",
        f"{100 * SHARE:g} % of the time that a complete grid of {GRID_SEEDS} seeds would take, its own races of"
        " learning rates included (the grid has none).",
        "Nothing is trained. *Planted*: six families with drawn curves. The others: the stored runs of the"
        " [micro-paper](micropaper/README.md) of the first ladder, whose",
        "means over seeds are taken as true. *Regret*: points that are lost against the best arm, by which it reaches"
        f" less of {REACH.describe()},",
        f"and {POINTS_PER_OCTAVE:g} for each doubling of the parameters; *points*: of score alone. *Validation − test*:"
        " of the recommended arm; an",
        "answer chosen on validation looks better there, its test score does not.",
        "",
        "| worlds | replays | regret: median | 90 % below | at most 1 point | points: 90 % below | octaves of N: median"
        " | time, of the grid's | regret foretold | validation − test: mean | within its interval |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    kinds = {"planted": "planted", **{o.source: o.source for o in made}}
    rows = [(name, [o for o in made if o.source == name]) for name in kinds]
    for name, some in [*rows, ("all", made)]:
        if not some:
            continue
        regrets = np.array([o.regret for o in some])
        lines.append(
            f"| {name} | {len(some)} | {np.median(regrets):.2f} | {np.quantile(regrets, 0.9):.2f}"
            f" | {100 * np.mean(regrets <= 1):.0f} % | {np.quantile([o.points for o in some], 0.9):.2f}"
            f" | {np.median([o.octaves for o in some]):+.1f} | {100 * np.mean([o.share for o in some]):.0f} %"
            f" | {np.mean([o.foretold for o in some]):.2f} | {np.mean([o.difference for o in some]):+.2f}"
            f" | {100 * np.mean([abs(o.difference) <= o.width for o in some]):.0f} % |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    numbers = [int(n) for n in sys.argv[1:]] or [30, 20]  # planted, recorded, first seed
    print(page(outcomes(*numbers)), end="")
