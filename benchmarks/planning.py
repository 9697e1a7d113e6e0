"""How long planning takes, and how much memory: the paper's whole grid, and a made study of 100,000 runs.

    python benchmarks/planning.py            # a table in Markdown

Neither data nor weights are read; every run gets its exact count and its run_id.
"""

from __future__ import annotations

import resource
import time

from apet.studies.planning import plan_study
from apet.studies.study_config import StudyConfig
from apet.studies.study_file import load_study


def large() -> StudyConfig:
    """2 backbones x 2 tasks x 5 methods x 50 budgets x 100 seeds."""
    return StudyConfig(
        name="large",
        backbones=("microworld-t5-mini", "microworld-t5-small"),
        tasks=("microworld-sst2", "microworld-mnli"),
        methods=("apet-adjacent", "apet-discrete", "apet", "lora", "bitfit"),
        budgets=tuple(str(8 * n) for n in range(1, 51)),
        seeds=tuple(range(100)),
    )


def main() -> None:
    """A line for each study."""
    print("| study | runs | seconds | peak memory, MB |\n|---|--:|--:|--:|")
    for study in (load_study("paper", {}), large()):
        began = time.perf_counter()
        runs = plan_study(study)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"| {study.name} | {len(runs):,} | {seconds:.1f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
