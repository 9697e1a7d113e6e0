"""The paper's study rehearsed: every cell of its grid on random backbones of the published shapes, a few steps each.

    python benchmarks/paper_rehearsal.py runs/rehearsal                 # T5 v1.1 small and BERT small, all tasks
    python benchmarks/paper_rehearsal.py runs/rehearsal --task mnli --task samsum

Before thousands of GPU hours are spent: each method at each count on each task is planned, built, trained for two
steps, measured, carried to the other tasks and drawn. Weights are random, rows made up, the vocabulary that of the
microworld, so that scores mean nothing; everything else is what the study will do. A cell that fails ends with 1.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, PreTrainedModel, T5Config, T5ForConditionalGeneration

import apet
from apet.backbones.loading import load_tokenizer
from apet.backbones.registry import published_shapes
from apet.tasks.task import Task, registered_tasks

REHEARSED = {"t5-v1.1-small": "microworld-t5-nano", "bert-small": "microworld-bert-small"}
"""Backbone of the study -> whose tokenizer it reads with."""
WORDS = ["the", "plot", "is", "warm", "and", "slow", "but", "people", "like", "it", "more", "than", "they", "say"]
ROWS = {"train": 16, "validation": 8}


def write_backbone(name: str, folder: Path) -> None:
    """A random backbone of the published shape, but for its vocabulary."""
    tokenizer = load_tokenizer(REHEARSED[name])
    size = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    settings = {**published_shapes()[name].settings, **size}
    torch.manual_seed(0)
    model: PreTrainedModel
    if name.startswith("t5"):
        start = {"decoder_start_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        model = T5ForConditionalGeneration(T5Config(**settings, **start))
    else:
        model = BertModel(BertConfig(**settings))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(task: Task, folder: Path) -> None:
    """Rows that no two splits share, with every label or some free text."""
    folder.mkdir(parents=True)
    labels = list(task.labels)
    for split, count in ROWS.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as f:
            out = csv.DictWriter(f, [*task.columns, task.target])
            out.writeheader()
            for n in range(count):
                words = [WORDS[(n + k) % len(WORDS)] for k in range(4)]
                texts = {column: f"{' '.join(words)} {split} {n} {column}" for column in task.columns}
                out.writerow({**texts, task.target: labels[n % len(labels)] if labels else words[0]})


def rehearse(folder: Path, tasks: Sequence[str]) -> int:
    """Run, transfer and report all cells; what is done already is not done again.

    Returns:
        Runs that failed.
    """
    known = registered_tasks()
    for name in tasks:
        rows = folder / "data" / name.replace("-", "_")
        if not rows.is_dir():
            write_rows(known[name], rows)
    for name in REHEARSED:
        if not (folder / name).is_dir():
            write_backbone(name, folder / name)
    text = resources.files("apet").joinpath("suites", "paper.yaml").read_text("utf-8")
    (folder / "paper.yaml").write_text(text.replace('"bert-*"', '"*bert-*"'), "utf-8")
    began = time.perf_counter()
    study = apet.Study.run(
        folder / "paper.yaml",
        folder / "study",
        backbones=[str(folder.absolute() / name) for name in REHEARSED],
        tasks=[*tasks],
        data=str(folder.absolute() / "data" / "{task}"),
        seeds=[0],
        max_steps=2,
        batch_size=4,
        max_eval_samples=8,
        dtype="float32",
        num_threads=1,
    )
    ran = time.perf_counter() - began
    if len(tasks) > 1:
        apet.transfer(folder / "study", filters={"method": "lora", "budget": "default"}, limit=4, quiet=True)
    report = apet.report(folder / "study")
    runs = study.runs()
    failed = runs[runs["state"] == "failed"]
    for error, count in failed["error"].value_counts().items():
        print(f"{count} failed: {error}")
    cells = runs.groupby(["backbone", "method", "budget"], dropna=False).ngroups
    print(f"{len(runs)} runs of {cells} methods and counts on {len(tasks)} tasks, {len(failed)} failed, {ran:.0f} s")
    print(report.page)
    return len(failed)


def main() -> None:
    """Rehearse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", action="append", help="such as mnli; without it, the paper's eleven")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ["APET_CACHE"] = str(given.folder.absolute() / "cache")
    papers = apet.Study.plan("paper", seeds=[0]).study.tasks
    sys.exit(1 if rehearse(given.folder, given.task or papers) else 0)


if __name__ == "__main__":
    main()
