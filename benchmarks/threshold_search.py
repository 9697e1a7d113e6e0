"""Threshold search against a full grid on the embedded ladder: do they agree, and what does each cost?

    python benchmarks/threshold_search.py [FOLDER]

Two backbones x two tasks x two methods. The grid has every N with every seed and is judged by the same rules; the
search has a record of its own, so that it finds nothing that the grid has run and may stop runs early. Finished runs in
FOLDER (runs/thresholds) are not run again; the table is written to docs/results/thresholds.md.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apet.analysis.thresholds import Bracket, bracket
from apet.studies.driver import Driver
from apet.studies.local import Local
from apet.studies.searching import Searcher
from apet.studies.store import opened
from apet.studies.thresholds import Rules, Search, Threshold
from apet.training.settings import RunSettings
from apet.training.watch import Watch

PAGE = Path(__file__).parents[1] / "docs/results/thresholds.md"
BACKBONES = ("microworld-t5-mini", "microworld-t5-small")
TASKS = ("microworld-sst2", "microworld-mnli")
METHODS: dict[str, dict[str, object]] = {"lora": {}, "apet": {"distribution": "discrete"}}
RULES = Rules()
SETTINGS = {
    "steps": 60,
    "batch_size": 16,
    "learning_rate": 0.01,
    "dtype": "float32",
    "evaluate_every": 60,
    "validation_examples": 200,
    "keep_theta": False,
    "threads": 1,
}
REFERENCE_RATE = 0.002


def by_grid(search: Search) -> tuple[Bracket, Bracket]:
    """Where the thresholds lie by every N with all its seeds."""
    found = []
    for kind in ("low", "high"):
        passes = [search.passes(kind, n) for n in search.grid]
        found.append(bracket(search.grid, ["passes" if p else "fails" for p in passes]))
    return found[0], found[1]


def apart(one: Threshold, two: Bracket, points: list[int]) -> int:
    """How many steps of the grid the search's answer lies outside the grid's range; inside it, 0."""

    def place(n: float | None) -> int:
        return len(points) if n is None or math.isinf(n) else points.index(int(n))

    first = 0 if two.above == 0 else points.index(int(two.above)) + 1
    return max(0, first - place(one.at), place(one.at) - place(two.reached))


def main(folder: Path, machine: Local) -> None:
    """Both ways for all eight, then the table."""
    lines, cost = [], [0, 0]
    for backbone, task, method in itertools.product(BACKBONES, TASKS, METHODS):
        base = RunSettings(backbone=backbone, task=task, method=method, method_settings=METHODS[method], **SETTINGS)
        with _searcher(folder / "search", base, machine) as searcher:
            search, points = searcher.search()
            answers = search.go()
        with _searcher(folder / "grid", base, machine) as searcher:
            whole, _ = searcher.search()
            whole.measure_all()
        low, high = by_grid(whole)
        steps = [apart(a, b, points) for a, b in zip(answers, (low, high), strict=True)]
        cost = [cost[0] + search.runs, cost[1] + whole.runs]
        lines.append(
            f"| {backbone} | {task} | {searcher.label} | {_range(answers[0])} | {_bracket(low)} | {_range(answers[1])}"
            f" | {_bracket(high)} | {steps[0]}, {steps[1]} | {search.runs} of {whole.runs} |"
        )
        print(lines[-1], flush=True)
    head = "| backbone | task | method | low, search | low, grid | high, search | high, grid | steps apart | runs |"
    PAGE.write_text(
        "# Threshold search against a full grid\n\n"
        "On the synthetic ladder; made by `python benchmarks/threshold_search.py`. "
        f"{SETTINGS['steps']} steps of {SETTINGS['batch_size']}, learning rate {SETTINGS['learning_rate']}"
        f" ({REFERENCE_RATE} of full fine-tuning), {SETTINGS['validation_examples']} validation items. Rules:"
        f" {RULES.spelt()}.\n\nThe grid judges every N by all {RULES.most_seeds} seeds. Where an N fails above one that"
        " passes, its range takes in both. *Steps apart* (low, high): how many N of the grid lie between the search's"
        " answer and the grid's range.\n\n"
        f"{head}\n{'|---' * 9}|\n" + "\n".join(lines) + f"\n\nTogether {cost[0]} runs of {cost[1]},"
        f" {100 * cost[0] / cost[1]:.0f} %.\n"
    )


@contextmanager
def _searcher(folder: Path, base: RunSettings, machine: Local) -> Iterator[Searcher]:
    with opened(folder) as store:
        yield Searcher(base, store, Driver(store, machine, Watch()), RULES, REFERENCE_RATE)


def _range(t: Threshold) -> str:
    if t.at is None:
        return f"above {t.above:,}"
    return f"at most {t.at:,}" if t.above is None else f"{t.above:,} – {t.at:,}"


def _bracket(b: Bracket) -> str:
    if math.isinf(b.reached):
        return f"above {b.above:,.0f}"
    return f"{b.above:,.0f} – {b.reached:,.0f}" if b.above else f"at most {b.reached:,.0f}"


if __name__ == "__main__":
    workers = Local(2)
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/thresholds"), workers)
    finally:
        workers.stop()
