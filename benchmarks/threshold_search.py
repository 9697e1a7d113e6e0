"""Threshold search against a full grid on the embedded ladder: do they agree, and what does each cost?

    python benchmarks/threshold_search.py [FOLDER]

Two backbones x two tasks x two methods. The grid has every N with every seed; the search has a record of its own, so
that it finds nothing that the grid has run. Finished runs in FOLDER (runs/thresholds) are not run again; the table is
written to docs/results/thresholds.md.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from apet.studies.driver import Driver
from apet.studies.local import Local
from apet.studies.searching import Searcher
from apet.studies.store import Store
from apet.studies.thresholds import Rules, Search, Threshold
from apet.training.settings import RunSettings
from apet.training.watch import Watch

TABLE = Path(__file__).parents[1] / "docs/results/thresholds.md"
BACKBONES = ("microworld-t5-mini", "microworld-t5-small")
TASKS = ("microworld-sst2", "microworld-nq-open")
METHODS: dict[str, dict[str, object]] = {"lora": {}, "apet": {"distribution": "discrete"}}
LEAST, MOST, RULES = 16, 32768, Rules(margin=0.02)
STEPS, ITEMS, REFERENCE_RATE = 120, 300, 0.002


def settings(backbone: str, task: str, method: str) -> RunSettings:
    """What all runs of one search share."""
    return RunSettings(
        backbone=backbone,
        task=task,
        method=method,
        method_settings=METHODS[method],
        steps=STEPS,
        learning_rate=0.01,
        validation_examples=ITEMS,
        keep_theta=False,
        threads=1,
    )


def from_grid(search: Search, kind: str) -> Threshold:
    """The smallest N that passes by the mean of all its seeds, with every N measured."""
    level = search.chance if kind == "low" else sum(search.reference) / len(search.reference) - search.rules.margin
    passes = [sum(v.value for v in search.values[n]) / len(search.values[n]) > level for n in search.grid]
    at = next((i for i, yes in enumerate(passes) if yes), len(passes))
    return Threshold(
        "low" if kind == "low" else "high",
        search.grid[at - 1] if at else None,
        search.grid[at] if at < len(passes) else None,
        clear=True,
    )


def apart(one: Threshold, two: Threshold, grid: list[int]) -> int:
    """How many steps of the grid lie between two answers."""
    places = [grid.index(t.at) if t.at is not None else len(grid) for t in (one, two)]
    return abs(places[0] - places[1])


def main(folder: Path) -> None:
    """Both ways for all eight, then the table."""
    lines, cost = [], [0, 0]
    for backbone, task, method in itertools.product(BACKBONES, TASKS, METHODS):
        found: list[Search] = []
        answers: list[tuple[Threshold, Threshold]] = []
        for way in ("search", "grid"):
            with closing(Store(folder / way, create=True)) as store, _workers() as machine:
                driver = Driver(store, machine, Watch())
                searcher = Searcher(settings(backbone, task, method), store, driver, RULES, REFERENCE_RATE)
                search, points = searcher.search(LEAST, MOST)
                if way == "search":
                    answers.append(search.go())
                else:
                    seeds = range(RULES.most_seeds)
                    search.reference = [v.value for v in search.measure(None, range(3), None) if v is not None]
                    for n in points:
                        search.values[n] = [v for v in search.measure(n, seeds, None) if v is not None]
                    search.runs = 3 + len(points) * len(seeds)
                    answers.append((from_grid(search, "low"), from_grid(search, "high")))
            found.append(search)
        steps = [apart(s, g, points) for s, g in zip(*answers, strict=True)]
        cost = [c + s.runs for c, s in zip(cost, found, strict=True)]
        lines.append(
            f"| {backbone} | {task} | {method} | "
            + " | ".join(_range(t) for pair in zip(*answers, strict=True) for t in pair)
            + f" | {steps[0]}, {steps[1]} | {found[0].runs} of {found[1].runs} |"
        )
        print(lines[-1], flush=True)
    head = (
        "| backbone | task | method | low, search | low, grid | high, search | high, grid | steps apart | runs |\n"
        + "|---" * 9
        + "|"
    )
    TABLE.write_text(
        "# Threshold search against a full grid\n\n"
        "On the synthetic ladder; made by `python benchmarks/threshold_search.py`. "
        f"{STEPS} steps of 32, learning rate 0.01 ({REFERENCE_RATE} of full fine-tuning), {ITEMS} validation items; "
        f"{RULES.spelt()}. "
        "The grid decides by the mean of all five seeds of every N.\n\n"
        f"{head}\n" + "\n".join(lines) + f"\n\nTogether {cost[0]} runs of {cost[1]}: {100 * cost[0] / cost[1]:.0f} %.\n"
    )


@contextmanager
def _workers() -> Iterator[Local]:
    machine = Local(2)
    try:
        yield machine
    finally:
        machine.stop()


def _range(t: Threshold) -> str:
    if t.at is None:
        return f"> {t.above:,}"
    return f"≤ {t.at:,}" if t.above is None else f"{t.above:,} – {t.at:,}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/thresholds"))
