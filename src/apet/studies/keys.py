"""What determines a run's numbers, as one key: two runs of one key are the same run."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from apet.backbones.hub import cached_dataset
from apet.backbones.names import find
from apet.microworld import rows
from apet.microworld.digests import digest
from apet.tasks.sources import source_files
from apet.tasks.task import Task
from apet.training.run import NUMERIC_VERSION
from apet.training.settings import RunSettings

IRRELEVANT = {"keep_theta", "data", "task", "text", "label", "backbone", "budget", "seed"}
"""Settings without an effect on the numbers, and those that enter the key resolved."""


def run_key(s: RunSettings, task_print: str, backbone_print: str, parameters: int, common: dict[str, Any]) -> str:
    """16 hex digits.

    Args:
        s: the settings.
        task_print: fingerprint of its definition and data.
        backbone_print: fingerprint of the backbone's weights.
        parameters: N; a budget may be written in many ways.
        common: settings shared by many runs, already as plain data without the irrelevant ones.
    """
    seeds = [s.seed_for("mask_seed"), s.seed_for("init_seed"), s.seed_for("data_seed")]
    what = [NUMERIC_VERSION, common, task_print, backbone_print, parameters, seeds]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def common_of(s: RunSettings) -> dict[str, Any]:
    """The settings that enter a key as they are."""
    own = s.model_dump(mode="json", exclude=IRRELEVANT | {"mask_seed", "init_seed", "data_seed"})
    return {**own, "evaluate_every": s.interval}


@cache
def backbone_print(name: str) -> str:
    """Fingerprint of a backbone's files: names, sizes, and blocks spread over each. A hub id's is its cached commit."""
    place = find(name)
    if not isinstance(place.where, Path):
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(place.where, "config.json")
        commit = Path(config).parent.name if isinstance(config, str) else "not cached"
        return f"{place.where}@{commit}"
    h = hashlib.sha256()
    endings = ("config.json", ".safetensors", ".bin", ".gguf", "tokenizer.json", ".model", "vocab.txt")
    for file in sorted(f for f in place.where.iterdir() if f.name.endswith(endings)):
        h.update(file.name.encode())
        h.update(file_print(file).encode())
    return h.hexdigest()[:16]


BLOCK, BLOCKS = 4096, 256


def file_print(file: Path) -> str:
    """Size and up to 256 blocks of a file, spread evenly: a large one is told from another in milliseconds."""
    size = file.stat().st_size
    h = hashlib.sha256(str(size).encode())
    with file.open("rb") as f:
        if size <= BLOCK * BLOCKS:
            h.update(f.read())
        else:
            for i in range(BLOCKS):
                f.seek(i * (size - BLOCK) // (BLOCKS - 1))
                h.update(f.read(BLOCK))
    return h.hexdigest()


def task_print(task: Task, data: str | None) -> str | None:
    """Fingerprint of a task's definition and its data's files; None where the data are not at hand."""
    definition = task.model_dump_json(exclude={"about", "source"})
    if data is None and task.source.microworld:
        return _digest(definition, _made(task.source.microworld, task.source.seed, tuple(task.splits.values())))
    if data is None and task.source.hub:
        found = cached_dataset(task.source.hub, task.source.config)
        return None if found is None else _digest(definition, found)
    files = source_files(task, data)
    if files is None:
        return None
    return _digest(definition, *(f"{f.name} {_whole(f)}" for f in files))


@cache
def _made(name: str, seed: int, splits: tuple[str, ...]) -> str:
    """Of the rows themselves: what is learnt decides, not the program that makes it."""
    return digest(json.dumps(row, ensure_ascii=False) for split in splits for row in rows(name, split, seed))


def _whole(file: Path) -> str:
    archive = next((p for p in file.parents if p.suffix == ".zip"), file)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
