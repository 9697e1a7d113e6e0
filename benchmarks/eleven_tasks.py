"""The eleven tasks on real subsets, end to end, on four kinds of backbones: numbers and times for docs/results.

    python benchmarks/eleven_tasks.py DATA [PART …]

DATA holds a folder for each dataset (`sst2/train.jsonl`, …, as on the hub).
Parts: tiny-t5, tiny-llama, minilm, minilm-150, smollm2.
Finished runs in runs/eleven are not run again; the table is written from whatever is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from apet.training.config import RunConfig
from apet.training.output_folder import RESULT
from apet.training.progress import Progress
from apet.training.resources import Resources
from apet.training.run import tune
from apet.training.run_dir import read_run

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

RUNS, TABLE = ROOT / "runs/eleven", ROOT / "docs/results/eleven-tasks.md"
ELEVEN = ("sst2", "imdb", "rotten-tomatoes", "mnli", "qnli", "rte", "mrpc", "qqp", "nq-open", "samsum", "multi-news")
SHORT = ("sst2", "rotten-tomatoes", "mrpc")
LONG = ("imdb", "mnli", "qnli", "rte", "qqp")
FOUR = ("sst2", "mnli", "nq-open", "samsum")

PARTS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "tiny-t5": (ELEVEN, {"method": "lora", "max_steps": 20, "max_eval_samples": 50}),
    "tiny-llama": (FOUR, {"method": "lora", "max_steps": 20, "max_eval_samples": 50}),
    "minilm": (SHORT, {"method": "fine-tuning", "max_steps": 300, "learning_rate": 1e-4, "eval_steps": 100}),
    "minilm-150": (LONG, {"method": "fine-tuning", "max_steps": 150, "learning_rate": 1e-4, "eval_steps": 75}),
    "smollm2": (
        FOUR,
        {
            "method": "lora",
            "max_steps": 8,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "max_eval_samples": 16,
            "eval_steps": 8,
        },
    ),
}
BACKBONES = {"minilm": "all-minilm-l6-v2", "minilm-150": "all-minilm-l6-v2", "smollm2": "smollm2-135m"}


def backbone(part: str) -> str:
    """A packaged name, or the folder of a small random backbone made on the spot."""
    if part in BACKBONES:
        return BACKBONES[part]
    from tiny_backbones import save_backbone

    folder = RUNS / f"backbone-{part}"
    if not folder.exists():
        save_backbone(part.removeprefix("tiny-"), folder)
    return str(folder.relative_to(ROOT))


def run(data: Path, part: str) -> None:
    """Every task of a part that is not there yet."""
    tasks, settings = PARTS[part]
    resources = Resources(Progress())
    for task in tasks:
        s = RunConfig(
            backbone=backbone(part),
            task=task,
            data=str(data / task.replace("-", "_")),
            **settings,  # type: ignore[arg-type]
        )
        folder = RUNS / f"{part}-{task}"
        if not (folder / RESULT).is_file() or read_run(folder).result.config != s:
            resources.progress.log(f"{part} {task}")
            tune(s, folder, resources)


def write_table() -> None:
    """docs/results/eleven-tasks.md from the finished runs."""
    lines = [
        "| backbone | task | method | measure | value % | 95 % over items | untrained | steps | steps/s | seconds |"
    ]
    lines.append("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for part, (tasks, _) in PARTS.items():
        for task in tasks:
            folder = RUNS / f"{part}-{task}"
            if not (folder / "result.json").is_file():
                continue
            r = read_run(folder).result
            lines.append(
                f"| {r.backbone.rpartition('backbone-')[2]} ({r.objective}) | {task} | {r.method} | {r.metric} |"
                f" {100 * r.score:.1f} | {100 * r.ci_low:.1f} – {100 * r.ci_high:.1f} |"
                f" {100 * r.score_untrained:.1f} | {r.max_steps} x {r.batch_size} |"
                f" {r.steps_per_second:.2f} | {r.total_seconds:.0f} |"
            )
    head = (
        TABLE.read_text("utf-8").split("\n| backbone")[0] if TABLE.exists() else "# The eleven tasks on real subsets\n"
    )
    TABLE.write_text(head + "\n" + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[2:] or PARTS:
        run(Path(sys.argv[1]), name)
        write_table()
