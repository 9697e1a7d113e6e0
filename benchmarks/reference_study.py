"""Twelve short runs whose numbers must not change: a redesign that keeps behavior keeps every bit of them.

    python benchmarks/reference_study.py            # compare with docs/results/reference-study.csv
    python benchmarks/reference_study.py --write    # take them anew, after a change that is meant to change numbers

Bits depend on the processor and on the version of torch: compare on the machine that took them, or take both there.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from apet.studies.executors.local import LocalExecutor
from apet.studies.held_store import open_store
from apet.studies.planning import plan_study
from apet.studies.results import Study
from apet.studies.scheduler import Scheduler
from apet.studies.study_file import parse_study
from apet.training.progress import Progress

EXPECTED = Path(__file__).parents[1] / "docs" / "results" / "reference-study.csv"
COLUMNS = ["backbone", "task", "method", "num_trainable", "seed", "step", "loss", "score", "ci_low", "ci_high"]
STUDY = """
name: reference
backbones: [microworld-t5-mini, microworld-bert-small]
tasks: [microworld-mnli]
methods: [fine-tuning, prompt, bitfit, lora, adapter, apet-adjacent, apet-discrete]
seeds: [0]
run_defaults: {max_steps: 60, batch_size: 16, eval_steps: 20, dtype: float32, learning_rate: 0.004, device: cpu}
overrides:
  - {match: {backbone: "*-bert-*", method: [fine-tuning, prompt]}, exclude: true}
  - {match: {method: lora}, budgets: ["1000"]}
  - {match: {method: adapter, backbone: "*-bert-*"}, budgets: ["173"]}
"""


def measured() -> list[list[str]]:
    """One row a measurement, every float to its last bit."""
    with tempfile.TemporaryDirectory() as folder:
        plans = plan_study(parse_study(STUDY, "reference study", {}))
        with open_store(Path(folder)) as store:
            engine = LocalExecutor(2)
            try:
                Scheduler(store, engine, Progress()).run(plans)
            finally:
                engine.stop()
        study = Study(Path(folder))
        points = study.curves().merge(study.runs(), on="run_id", suffixes=("", "_best"))
    return sorted(
        [p.backbone, p.task, p.method, str(int(p.num_trainable)), str(p.seed), str(p.step)]
        + [repr(float(x)) for x in (p.loss, p.score, p.ci_low, p.ci_high)]
        for p in points.itertuples()
    )


def main() -> None:
    """Compare, or write."""
    rows = measured()
    if "--write" in sys.argv:
        with EXPECTED.open("w", encoding="utf-8", newline="") as f:
            csv.writer(f).writerows([COLUMNS, *rows])
        return
    with EXPECTED.open(encoding="utf-8", newline="") as f:
        expected = list(csv.reader(f))[1:]
    different = [(a, b) for a, b in zip(expected, rows, strict=True) if a != b]
    for a, b in different[:5]:
        print("expected", *a)
        print("measured", *b)
    print(f"{len(rows) - len(different)} of {len(rows)} measurements are equal to the last bit")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
