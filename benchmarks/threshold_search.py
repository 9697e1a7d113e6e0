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
from apet.studies.executors.local import LocalExecutor
from apet.studies.scheduler import Scheduler
from apet.studies.store import open_store
from apet.studies.threshold_search import ThresholdSearcher
from apet.studies.thresholds import SearchedThreshold, ThresholdRules, ThresholdSearch
from apet.training.config import RunConfig, validate_config
from apet.training.progress import Progress

PAGE = Path(__file__).parents[1] / "docs/results/thresholds.md"
BACKBONES = ("microworld-t5-mini", "microworld-t5-small")
TASKS = ("microworld-sst2", "microworld-mnli")
METHODS: dict[str, dict[str, object]] = {"lora": {}, "apet": {"distribution": "discrete"}}
RULES = ThresholdRules()
SETTINGS = {
    "max_steps": 60,
    "batch_size": 16,
    "learning_rate": 0.01,
    "dtype": "float32",
    "eval_steps": 60,
    "max_eval_samples": 200,
    "save_delta": False,
    "num_threads": 1,
}
REFERENCE_RATE = 0.002


def by_grid(search: ThresholdSearch) -> tuple[Bracket, Bracket]:
    """Where the thresholds lie by every N with all its seeds."""
    found = []
    for kind in ("low", "high"):
        passes = [search.passes(kind, n) for n in search.grid]
        found.append(bracket(search.grid, ["passes" if p else "fails" for p in passes]))
    return found[0], found[1]


def apart(one: SearchedThreshold, two: Bracket, points: list[int]) -> int:
    """How many steps of the grid the search's answer lies outside the grid's range; inside it, 0."""

    def place(n: float | None) -> int:
        return len(points) if n is None or math.isinf(n) else points.index(int(n))

    first = 0 if two.lower == 0 else points.index(int(two.lower)) + 1
    return max(0, first - place(one.upper), place(one.upper) - place(two.upper))


def main(folder: Path, machine: LocalExecutor) -> None:
    """Both ways for all eight, then the table."""
    lines, cost = [], [0, 0]
    for backbone, task, method in itertools.product(BACKBONES, TASKS, METHODS):
        names = {"backbone": backbone, "task": task, "method": method, "method_settings": METHODS[method]}
        base = validate_config({**SETTINGS, **names})
        with _searcher(folder / "search", base, machine) as searcher:
            search, points = searcher.search()
            answers = search.run()
        with _searcher(folder / "grid", base, machine) as searcher:
            whole, _ = searcher.search()
            whole.measure_all()
        low, high = by_grid(whole)
        steps = [apart(a, b, points) for a, b in zip(answers, (low, high), strict=True)]
        cost = [cost[0] + search.num_runs, cost[1] + whole.num_runs]
        lines.append(
            f"| {backbone} | {task} | {searcher.label} | {_range(answers[0])} | {_bracket(low)} | {_range(answers[1])}"
            f" | {_bracket(high)} | {steps[0]}, {steps[1]} | {search.num_runs} of {whole.num_runs} |"
        )
        print(lines[-1], flush=True)
    head = "| backbone | task | method | low, search | low, grid | high, search | high, grid | steps apart | runs |"
    PAGE.write_text(
        "# Threshold search against a full grid\n\n"
        "On the synthetic ladder; made by `python benchmarks/threshold_search.py`. "
        f"{SETTINGS['max_steps']} steps of {SETTINGS['batch_size']}, learning rate {SETTINGS['learning_rate']}"
        f" ({REFERENCE_RATE} of full fine-tuning), {SETTINGS['max_eval_samples']} validation items. Rules:"
        f" {RULES.describe()}.\n\nThe grid judges every N by all {RULES.max_seeds} seeds. Where an N fails above one"
        " that passes, its range takes in both. *Steps apart* (low, high): how many N of the grid lie between the"
        " search's answer and the grid's range.\n\n"
        f"{head}\n{'|---' * 9}|\n" + "\n".join(lines) + f"\n\nTogether {cost[0]} runs of {cost[1]},"
        f" {100 * cost[0] / cost[1]:.0f} %.\n"
    )


@contextmanager
def _searcher(folder: Path, base: RunConfig, machine: LocalExecutor) -> Iterator[ThresholdSearcher]:
    with open_store(folder) as store:
        yield ThresholdSearcher(base, store, Scheduler(store, machine, Progress()), RULES, REFERENCE_RATE)


def _range(t: SearchedThreshold) -> str:
    if t.upper is None:
        return f"above {t.lower:,}"
    return f"at most {t.upper:,}" if t.lower is None else f"{t.lower:,} – {t.upper:,}"


def _bracket(b: Bracket) -> str:
    if math.isinf(b.upper):
        return f"above {b.lower:,.0f}"
    return f"{b.lower:,.0f} – {b.upper:,.0f}" if b.lower else f"at most {b.upper:,.0f}"


if __name__ == "__main__":
    workers = LocalExecutor(2)
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/thresholds"), workers)
    finally:
        workers.stop()
