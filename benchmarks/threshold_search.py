"""Threshold search against a full grid on the embedded ladder: do they agree, and what does each cost?

    python benchmarks/threshold_search.py [FOLDER]
    python benchmarks/threshold_search.py --paired [FOLDER]     # one worker: runs in passes against one after another

Two backbones x two tasks x two methods. The grid has every N with every seed and is judged by the same curve; the
search has a record of its own, so that it finds nothing that the grid has run. Finished runs in FOLDER
(runs/thresholds) are not run again; the table is written to docs/results/thresholds.md.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apet.analysis.curve_values import ThresholdAnswer
from apet.search.stored_runs import ThresholdSearcher
from apet.search.thresholds import KINDS, ThresholdRules
from apet.studies.executors.local import LocalExecutor
from apet.studies.held_store import open_store
from apet.studies.scheduler import Scheduler
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


def agree(one: ThresholdAnswer, two: ThresholdAnswer) -> str:
    """Whether the intervals of two answers overlap."""
    return "yes" if one.ci_low <= two.ci_high and two.ci_low <= one.ci_high else "no"


def main(folder: Path, machine: LocalExecutor) -> None:
    """Both ways for all eight, then the table."""
    lines, cost = [], [0, 0]
    for backbone, task, method in itertools.product(BACKBONES, TASKS, METHODS):
        names = {"backbone": backbone, "task": task, "method": method, "method_settings": METHODS[method]}
        base = validate_config({**SETTINGS, **names})
        with _searcher(folder / "search", base, machine) as searcher:
            search = searcher.search()
            curve = search.run()
        with _searcher(folder / "grid", base, machine) as searcher:
            whole = searcher.search()
            whole.measure_all()
        found = [(search.answer(curve, kind), whole.answer(whole.curve(), kind)) for kind in KINDS]
        cost = [cost[0] + len(search.measured), cost[1] + len(whole.measured)]
        cells = [t.describe() for pair in found for t in pair]
        agreement = ", ".join(agree(*pair) for pair in found)
        runs = f"{len(search.measured)} of {len(whole.measured)}"
        lines.append("| " + " | ".join([backbone, task, searcher.label, *cells, agreement, runs]) + " |")
        print(lines[-1], flush=True)
    head = (
        "| backbone | task | method | low, search | low, grid | high, search | high, grid | intervals overlap | runs |"
    )
    PAGE.write_text(
        "# Threshold search against a full grid\n\n"
        "On the synthetic ladder; made by `python benchmarks/threshold_search.py`. "
        f"{SETTINGS['max_steps']} steps of {SETTINGS['batch_size']}, learning rate {SETTINGS['learning_rate']}"
        f" ({REFERENCE_RATE} of full fine-tuning), {SETTINGS['max_eval_samples']} validation items. Rules:"
        f" {RULES.describe()}.\n\nThe grid has every N with {RULES.max_seeds} seeds. *Intervals overlap*: low, high."
        "\n\n"
        f"{head}\n{'|---' * 9}|\n" + "\n".join(lines) + f"\n\nTogether {cost[0]} runs of {cost[1]},"
        f" {100 * cost[0] / cost[1]:.0f} %.\n"
    )


def paired(folder: Path, machine: LocalExecutor) -> None:
    """Each search twice on one worker, several runs in a pass and one after another: times, runs and answers."""
    searches = list(itertools.product(BACKBONES[:1], TASKS, METHODS))
    for turn, (backbone, task, method) in enumerate(searches):
        names = {"backbone": backbone, "task": task, "method": method, "method_settings": METHODS[method]}
        lines = {}
        for way in (
            (1, "auto") if turn % 2 else ("auto", 1)
        ):  # alternating: whatever else the machine does falls on both
            base = validate_config({**SETTINGS, **names, "side_by_side": way})
            with _searcher(folder / f"{way}", base, machine) as searcher:
                search = searcher.search()
                began = time.perf_counter()
                curve = search.run()
                seconds = time.perf_counter() - began
            answers = "; ".join(f"{k} {search.answer(curve, k).describe()}" for k in KINDS)
            lines[way] = seconds
            print(
                f"{task:16} {searcher.label:14} {way!s:5} {seconds:7.1f} s {len(search.measured):3} runs  {answers}",
                flush=True,
            )
        print(f"{task:16} {method:14} ratio {lines['auto'] / lines[1]:.2f}", flush=True)


@contextmanager
def _searcher(folder: Path, base: RunConfig, machine: LocalExecutor) -> Iterator[ThresholdSearcher]:
    with open_store(folder) as store:
        yield ThresholdSearcher(base, store, Scheduler(store, machine, Progress()), RULES, REFERENCE_RATE)


if __name__ == "__main__":
    words = [w for w in sys.argv[1:] if w != "--paired"]
    in_pairs = "--paired" in sys.argv
    target = Path(words[0]) if words else Path("runs/thresholds")
    workers = LocalExecutor(1 if in_pairs else 2)
    try:
        (paired if in_pairs else main)(target, workers)
    finally:
        workers.stop()
