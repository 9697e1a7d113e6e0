"""A study, and one run, against the scripts that one writes with peft and Trainer: seconds by the clock, and accuracy.

    python benchmarks/against_trainer.py                  # both parts, half an hour and more on two quiet cores
    python benchmarks/against_trainer.py --part study     # 12 runs on the ladder: two scales, two tasks, three seeds
    python benchmarks/against_trainer.py --part run       # MiniLM on tweets, 60 steps, against two paddings
    python benchmarks/against_trainer.py --quick          # a few steps of each: does it work?

LoRA (rank 8 on query and value) on both sides, the same rows, steps, batches, learning rates and evaluations. All
sides are programs that start anew. A study's runs go to `apet study run` at once; the scripts run one after another, as
a shell's loop has them, with all cores. Sides alternate from round to round. A ratio below 1 is a gain.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from apet.backbones.registry import locate_backbone
from apet.studies.results import Study
from apet.training.config import validate_config
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.run import Run

SCRIPT = Path(__file__).with_name("trainer_script.py")
SCALES = {"microworld-t5-mini": 0.004, "microworld-t5-base": 0.002}
"""Backbone -> learning rate."""
TASKS, SEEDS = ("microworld-sst2", "microworld-mnli"), (0, 1, 2)
MINILM, TWEETS = "all-minilm-l6-v2", "tweets"
Job = dict[str, Any]
Side = Callable[[Path], list[float]]
"""Does its work in a folder that is new; the scores of its runs come back."""


def settings(quick: bool, max_steps: int, evaluations: int, **others: object) -> dict[str, Any]:
    """Of all runs of a part."""
    steps = evaluations if quick else max_steps
    return {
        "max_steps": steps, "eval_steps": max(1, steps // evaluations), "batch_size": 16, "dtype": "float32",
        "max_eval_samples": 32 if quick else 200, "save_delta": False, **others,
    }  # fmt: skip


def job_of(config: dict[str, Any], folder: Path, resources: Resources, **more: object) -> Job:
    """What a script is told of a run: files with the texts that `apet` reads, templates filled in."""
    plan = resolve(validate_config(config), resources.cache)
    ours = Run(plan, resources)
    tokenizer = resources.tokenizer(config["backbone"])
    job: Job = {
        "backbone": str(locate_backbone(config["backbone"]).source),
        "writes": plan.objective == "text-to-text",
        "max_length": ours.objective.max_input_length,
        "eval_batch_size": 64,
        "num_threads": os.cpu_count(),
        "pad_to_max_length": False,
        "seed": config.get("seed", 0),
        **{k: config[k] for k in ("max_steps", "eval_steps", "batch_size", "learning_rate")},
        **more,
    }
    for split in ("train", "validation"):
        path = folder / f"{config['backbone']}-{plan.task.name}-{split}.jsonl"
        if not path.exists():
            given = ours.splits[split]
            rows = [
                {
                    "text": tokenizer.decode(e.input_ids.tolist(), skip_special_tokens=True),
                    "label": example.references[0],
                }
                for e, example in zip(
                    (given.encoded[i] for i in range(len(given.encoded))), given.examples, strict=True
                )
            ]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        job[split] = str(path)
    return job


def scripts(jobs: list[Job]) -> Side:
    """Scripts one after another."""

    def work(folder: Path) -> list[float]:
        scores = []
        for n, job in enumerate(jobs):
            path = folder / f"job-{n}.json"
            path.write_text(json.dumps(job | {"output": str(folder / f"trainer-{n}")}), "utf-8")
            run([sys.executable, str(SCRIPT), str(path)])
            scores.append(float(json.loads(path.with_suffix(".result.json").read_text("utf-8"))["score"]))
        return scores

    return work


def study(text: str) -> Side:
    """`apet study run`."""

    def work(folder: Path) -> list[float]:
        path = folder / "study.yaml"
        path.write_text(text, "utf-8")
        run([sys.executable, "-m", "apet", "study", "run", str(path), "--output", str(folder / "runs")])
        return [r.score for r in Study(folder / "runs").results().values()]

    return work


def single(config: dict[str, Any]) -> Side:
    """`apet tune`."""

    def work(folder: Path) -> list[float]:
        words = [f"{k}={v}" for k, v in config.items() if k not in ("backbone", "task", "method")]
        named = [w for k in ("backbone", "task", "method") for w in (f"--{k}", str(config[k]))]
        run([sys.executable, "-m", "apet", "tune", *named, *words, "--output", str(folder / "run")])
        return [float(json.loads((folder / "run" / "result.json").read_text("utf-8"))["score"])]

    return work


def run(words: list[str]) -> None:
    """Run a program to its end; what it prints is shown where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def compare(title: str, sides: dict[str, Side], rounds: int) -> None:
    """All sides in turns, the first one first in every other round; the first one's share of each other's seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    scores: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
            folder = Path(tempfile.mkdtemp(prefix="against-"))
            began = time.perf_counter()
            scores[name] = sides[name](folder)
            seconds[name].append(time.perf_counter() - began)
            shutil.rmtree(folder)
            print(f"  {name}: {seconds[name][-1]:.1f} s, score {statistics.mean(scores[name]):.3f}", flush=True)
    ours, *others = sides
    print(f"{title}: {len(scores[ours])} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in others:
        ratios = sorted(a / b for a, b in zip(seconds[ours], seconds[name], strict=True))
        spread = f" [{ratios[0]:.3f}, {ratios[-1]:.3f}]" if rounds > 1 else ""
        means = f"{statistics.mean(scores[ours]):.3f} against {statistics.mean(scores[name]):.3f}"
        print(f"  ratio to {name}: {statistics.median(ratios):.3f}{spread}, scores {means}", flush=True)


def compare_study(quick: bool, rounds: int, folder: Path, resources: Resources) -> None:
    """Twelve runs on the ladder; two where it is quick."""
    common = settings(quick, 200, 10)
    scales = dict(list(SCALES.items())[: 1 if quick else None])
    tasks, seeds = TASKS[: 1 if quick else None], SEEDS[: 2 if quick else None]
    jobs = [
        job_of(
            {**common, "backbone": b, "task": t, "method": "lora", "seed": s, "learning_rate": rate}, folder, resources
        )
        for b, rate in scales.items()
        for t in tasks
        for s in seeds
    ]
    rates = "".join(f"  - {{match: {{backbone: {b}}}, set: {{learning_rate: {rate}}}}}\n" for b, rate in scales.items())
    defaults = json.dumps({**common, "side_by_side": "auto"})
    text = (
        f"name: against\ndescription: against scripts\nbackbones: [{', '.join(scales)}]\ntasks: [{', '.join(tasks)}]\n"
        f"methods: [lora]\nbudgets: [default]\nseeds: {list(seeds)}\nrun_defaults: {defaults}\noverrides:\n{rates}"
    )
    compare("study on the ladder", {"apet": study(text), "scripts": scripts(jobs)}, rounds)


def compare_run(quick: bool, rounds: int, folder: Path, resources: Resources) -> None:
    """One run of MiniLM, against two ways of padding."""
    config = settings(quick, 60, 3, backbone=MINILM, task=TWEETS, method="lora", learning_rate=0.001)
    config |= {"max_train_samples": 2000}
    job = job_of(config, folder, resources)
    sides = {
        "apet": single(config),
        "dynamic padding": scripts([job]),
        "padded to 128": scripts([job | {"pad_to_max_length": True, "max_length": 128}]),
    }
    compare("MiniLM", sides, rounds)


def main(
    part: Annotated[str, typer.Option(help="study, run or both.")] = "both",
    quick: Annotated[bool, typer.Option("--quick", help="A few steps, two runs.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side works.")] = 2,
) -> None:
    """Compare."""
    folder, resources = Path(tempfile.mkdtemp(prefix="against-data-")), Resources()
    try:
        if part in ("both", "study"):
            compare_study(quick, 1 if quick else rounds, folder, resources)
        if part in ("both", "run"):
            compare_run(quick, 1 if quick else rounds, folder, resources)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
