"""What a large study takes: to plan and start 100,000 runs, to report as many stored ones, to read a CSV of 1 GB.

    python benchmarks/large_study.py                      # all three, a table in Markdown
    python benchmarks/large_study.py --runs 5000 --megabytes 50 --parts plan,report

Each part is a process of its own, whose seconds and highest memory are counted. Stored runs are copies of one real run
with other axes and scores; the CSV has two columns, is tuned on for two steps and evaluated on 200 rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

SMALL = {"backbone": "microworld-t5-mini", "task": "microworld-sst2", "max_steps": 2, "max_eval_samples": 20}
METHODS = ("lora", "bitfit", "adapter", "apet-adjacent", "apet-discrete")
BACKBONES, TASKS = ("microworld-t5-mini", "microworld-t5-small"), ("microworld-sst2", "microworld-mnli")
BUDGETS = 20


def plan(num_runs: int, folder: Path) -> None:
    """Plan a study and ask the record which runs are to be run."""
    from apet.studies.held_store import open_store
    from apet.studies.planning import plan_study
    from apet.studies.study_config import StudyConfig

    study = StudyConfig(
        name="large",
        backbones=BACKBONES,
        tasks=TASKS,
        methods=METHODS,
        budgets=tuple(str(8 * n) for n in range(1, BUDGETS + 1)),
        seeds=tuple(range(num_runs // (len(BACKBONES) * len(TASKS) * len(METHODS) * BUDGETS))),
    )
    runs = plan_study(study)
    with open_store(folder / "planned") as store:
        store.describe(study.name, study.to_yaml(), len(runs))
        assert not store.states()


def store_runs(num_runs: int, folder: Path) -> None:
    """A record of copies of one run."""
    from apet.studies.held_store import open_store
    from apet.studies.store_schema import RESULT_COLUMNS, digest_of, insert, to_cells
    from apet.training.config import RunAxes, validate_config
    from apet.training.resolve import resolve
    from apet.training.resources import Resources
    from apet.training.result import CurvePoint, columns
    from apet.training.run import tune

    resources = Resources()
    finished = tune(resolve(validate_config({**SMALL, "method": "lora"}), resources.cache), None, resources)
    points = [CurvePoint(step=n, loss=None, score=0.5, ci_low=0.4, ci_high=0.6, seconds=n) for n in range(3)]
    luck = np.random.default_rng(0)
    with open_store(folder / "stored") as store:
        store.db.execute("BEGIN")
        for n in range(num_runs):
            rest, backbone = divmod(n, len(BACKBONES))
            rest, task = divmod(rest, len(TASKS))
            rest, method = divmod(rest, len(METHODS))
            seed, budget = divmod(rest, BUDGETS)
            axes = RunAxes(BACKBONES[backbone], TASKS[task], METHODS[method], str(2**budget), seed)
            name, _, variant = METHODS[method].partition("-")
            config = finished.result.config.model_copy(
                update={
                    "backbone": axes.backbone, "task": axes.task, "method": name, "budget": 2**budget, "seed": seed,
                    "method_settings": {"distribution": variant} if variant else {},
                }
            )  # fmt: skip
            score = float(np.clip(0.5 + 0.02 * budget + 0.02 * luck.standard_normal(), 0, 1))
            run_id = f"{n:016x}"
            result = finished.result.model_copy(
                update={
                    "run_id": run_id, "config": config, "num_trainable": 2**budget, "score": score,
                    "ci_low": max(0.0, score - 0.02), "ci_high": min(1.0, score + 0.02),
                }
            )  # fmt: skip
            row = [*store._head(run_id, "complete", axes, None), "0" * 64, *to_cells(result, RESULT_COLUMNS)]
            rows = [[run_id, *to_cells(point, columns(CurvePoint))] for point in points]
            row.append(digest_of(row, *rows))
            store.db.execute(insert("runs", len(row)), row)
            store.db.executemany(insert("curves", len(rows[0])), rows)
        store.db.execute("COMMIT")


def write_csv(megabytes: int, path: Path) -> None:
    """Rows of a text and one of two labels."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(5_000)])
    with path.open("w", encoding="utf-8") as out:
        out.write("review,stars\n")
        while out.tell() < megabytes * 1_000_000:
            lines = (
                f"{' '.join(row)},{'good' if label else 'bad'}\n"
                for row, label in zip(
                    words[rng.integers(0, 5_000, (10_000, 40))], rng.integers(0, 2, 10_000), strict=True
                )
            )
            out.writelines(lines)


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds and highest memory, MB, of a program with its children."""
    began = time.perf_counter()
    code = (
        "import json, resource, subprocess, sys; r = subprocess.run(sys.argv[1:]).returncode;"
        " print(json.dumps([r, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    returned, peak = json.loads(done.stdout.splitlines()[-1])
    if returned:
        raise SystemExit(f"{' '.join(words)}: exit code {returned}\n{done.stderr[-3000:]}")
    return time.perf_counter() - began, peak


def main(
    runs: Annotated[int, typer.Option(help="Of the study.")] = 100_000,
    megabytes: Annotated[int, typer.Option(help="Of the CSV.")] = 1_000,
    parts: Annotated[str, typer.Option(help="plan, report, csv.")] = "plan,report,csv",
    inside: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure."""
    if inside is not None:
        {"plan": plan, "store": store_runs}[parts](runs, inside)
        return
    with tempfile.TemporaryDirectory(prefix="large-study-") as name:
        folder, this = Path(name), [sys.executable, __file__, "--runs", str(runs), "--inside", name]
        apet = [sys.executable, "-m", "apet"]
        print("| part | seconds | peak memory, MB |\n|---|--:|--:|")
        if "plan" in parts:
            print("| plan and start {:,} runs | {:.1f} | {:,.0f} |".format(runs, *measured([*this, "--parts", "plan"])))
        if "report" in parts:
            measured([*this, "--parts", "store"])
            print(
                "| report of {:,} stored runs | {:.1f} | {:,.0f} |".format(
                    runs, *measured([*apet, "report", str(folder / "stored")])
                )
            )
        if "csv" in parts:
            write_csv(megabytes, folder / "big.csv")
            tune = [*apet, "tune", "--data", str(folder / "big.csv"), "--text", "review", "--label", "stars"]
            tune += [
                "--backbone",
                BACKBONES[0],
                "--max-steps",
                "2",
                "max_eval_samples=200",
                "--output",
                str(folder / "run"),
            ]
            print("| two steps on a CSV of {:,} MB | {:.1f} | {:,.0f} |".format(megabytes, *measured(tune)))


if __name__ == "__main__":
    typer.run(main)
