"""What determines a run's numbers, as one key: two runs of one key are the same run."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from apet.backbones.hub import cached_dataset
from apet.backbones.registry import locate_backbone
from apet.cache import cache_folder, write_cached
from apet.tasks.sources import generated_fingerprint, source_files
from apet.tasks.task import Task
from apet.training.config import RunConfig
from apet.training.run import NUMERIC_VERSION

IRRELEVANT = {"save_delta", "data", "task", "text", "label", "backbone", "budget", "seed"}
"""Settings without an effect on the numbers, and those that enter the key resolved."""


def run_id(s: RunConfig, task_print: str, backbone_print: str, parameters: int, common: dict[str, Any]) -> str:
    """16 hex digits.

    Args:
        s: the settings.
        task_print: fingerprint of its definition and data.
        backbone_print: fingerprint of the backbone's weights.
        parameters: N; a budget may be written in many ways.
        common: settings shared by many runs, already as plain data without the irrelevant ones.
    """
    seeds = [s.resolved_seed("mask_seed"), s.resolved_seed("init_seed"), s.resolved_seed("data_seed")]
    what = [NUMERIC_VERSION, common, task_print, backbone_print, parameters, seeds]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def common_settings(s: RunConfig) -> dict[str, Any]:
    """The settings that enter a key as they are."""
    own = s.model_dump(mode="json", exclude=IRRELEVANT | {"mask_seed", "init_seed", "data_seed"})
    return {**own, "eval_steps": s.resolved_eval_steps}


ENDINGS = (
    "config.json", ".safetensors", ".bin", ".gguf", "tokenizer.json", "special_tokens_map.json", "added_tokens.json",
    ".model", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip
"""Of the files that make a backbone what it is: shape, weights, tokens."""


@cache
def backbone_fingerprint(name: str) -> str:
    """Fingerprint of a backbone's files: names and whole contents. A hub id's is its cached commit."""
    place = locate_backbone(name)
    if not isinstance(place.source, Path):
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(place.source, "config.json")
        commit = Path(config).parent.name if isinstance(config, str) else "not cached"
        return f"{place.source}@{commit}"
    h = hashlib.sha256()
    for file in sorted(f for f in place.source.iterdir() if f.name.endswith(ENDINGS) and f.is_file()):
        if place.gguf and file.suffix == ".gguf" and file.name != place.gguf:
            continue  # another backbone, of which this one knows nothing
        h.update(file.name.encode())
        h.update(file_fingerprint(file).encode())
    return h.hexdigest()[:16]


LARGE = 2**24
"""Bytes from which a file's digest is kept: below, it is made in less time than a look into the cache takes."""


def file_fingerprint(file: Path) -> str:
    """Digest of a whole file; a large one is read once, and again when it was written to."""
    at = file.stat()
    if at.st_size < LARGE:
        return _content(file, at.st_size)
    which = [str(file.resolve()), at.st_size, at.st_mtime_ns, at.st_ctime_ns]
    kept = cache_folder() / "digests" / hashlib.sha256(json.dumps(which).encode()).hexdigest()[:24]
    try:
        found = kept.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        found = ""
    if len(found) == 64:
        return found
    made = _content(file, at.st_size)
    write_cached(kept, lambda part: part.write_text(made, "ascii"))
    return made


def _content(file: Path, size: int) -> str:
    h = hashlib.sha256(str(size).encode())
    with file.open("rb") as f:
        while block := f.read(2**20):
            h.update(block)
    return h.hexdigest()


def task_fingerprint(task: Task, data: str | None) -> str | None:
    """Fingerprint of a task's definition and its data's files; None where the data are not at hand."""
    definition = task.model_dump_json(exclude={"description", "source"})
    if data is None and task.source.generator:
        return _digest(definition, generated_fingerprint(task))
    if data is None and task.source.hub:
        found = cached_dataset(task.source.hub, task.source.config)
        return None if found is None else _digest(definition, found)
    files = source_files(task, data)
    if files is None:
        return None
    return _digest(definition, *(f"{f.name} {_whole(f)}" for f in files))


def _whole(file: Path) -> str:
    archive = next((p for p in file.parents if p.suffix == ".zip"), file)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
