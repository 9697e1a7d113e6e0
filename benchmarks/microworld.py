"""The table of the embedded ladder: fine-tuning and four methods on every scale, and random weights beside them.

    apet study run microworld --output runs/microworld --only …    # as docs/results/microworld.md names them
    python benchmarks/microworld.py runs/microworld

Reads the study, runs LoRA on random weights of the largest T5-like shape that ships (runs/microworld-random; what is
there is not run again), and writes docs/results/microworld.md between its two marks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from apet.microworld.scales import SCALES, fresh
from apet.microworld.tokenizer import build
from apet.studies.definition import Definition
from apet.studies.driver import Driver
from apet.studies.local import Local
from apet.studies.planning import Planner
from apet.studies.results import Study
from apet.studies.store import Store, only_driver
from apet.training.watch import Watch

PAGE = Path(__file__).parents[1] / "docs/results/microworld.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
RANDOM = Path("runs/microworld-random")
LARGEST = "microworld-t5-base"
METHODS = ("fine-tuning", "adapter", "lora", "bitfit", "prompt")
TASKS = (
    "sst2", "imdb", "rotten-tomatoes", "mnli", "qnli", "rte", "mrpc", "qqp", "nq-open", "samsum", "multi-news",
)  # fmt: skip


def random_weights(tasks: Iterable[str]) -> pd.DataFrame:
    """LoRA on weights that nothing was learned by, with the study's own settings."""
    folder = RANDOM / LARGEST.replace("microworld", "random")
    if not folder.exists():
        fresh(LARGEST).save_pretrained(folder)
        build("t5").save_pretrained(folder)
    study = Definition(
        name="random-weights",
        backbones=[str(folder)],
        tasks=list(tasks),
        methods=["lora"],
        seeds=[0],
        defaults={"steps": 300, "learning_rate": 0.005, "evaluate_every": 150, "validation_examples": 300},
    )
    with only_driver(RANDOM), closing(Store(RANDOM, create=True)) as store:
        machine = Local(2)
        try:
            Driver(store, machine, Watch()).run(Planner().study(study))
        finally:
            machine.stop()
    return Study(RANDOM).runs()


def cell(runs: pd.DataFrame) -> str:
    """Mean in percent over the seeds, with Student's 95 % interval where there is more than one."""
    values = 100 * runs.value.dropna().to_numpy()
    if len(values) == 0:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.1f} ± {half:.1f} ({len(values)})"


def table(runs: pd.DataFrame) -> list[str]:
    """A row for each scale and method, a column for each task."""
    lines = ["| backbone | method | N | " + " | ".join(TASKS) + " |", "|---" * (3 + len(TASKS)) + "|"]
    own = runs[runs.budget.isna() & (runs.state == "complete")]
    for backbone in [*SCALES, *sorted(set(runs.backbone) - set(SCALES))]:
        for method in METHODS:
            some = own[(own.backbone == backbone) & (own.method == method)]
            if some.empty:
                continue
            n = "–".join(
                f"{v:,}" for v in sorted({int(some.trainable_parameters.min()), int(some.trainable_parameters.max())})
            )
            cells = [cell(some[some.task == f"microworld-{task}"]) for task in TASKS]
            lines.append(
                f"| {Path(backbone).name.removeprefix('microworld-')} | {method} | {n} | " + " | ".join(cells) + " |"
            )
    return lines


def main(folder: Path) -> None:
    """The page's table, anew."""
    runs = Study(folder).runs()
    whole = pd.concat([runs, random_weights(sorted(set(runs.task)))], ignore_index=True)
    page = PAGE.read_text()
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(before + "\n" + "\n".join(table(whole)) + "\n" + after)
    print("\n".join(table(whole)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
