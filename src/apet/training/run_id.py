"""What determines a run's numbers, as one identifier: two runs of one identifier are the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from apet.backbones.hub import cached_dataset
from apet.backbones.registry import locate_backbone
from apet.cache import cache_folder, write_cached
from apet.errors import ApetError
from apet.tasks.sources import generated_fingerprint, source_files
from apet.tasks.task import Task
from apet.training.config import RunConfig

NUMERIC_VERSION = 4
"""Raised when the same settings begin to give other numbers: stored runs of an older version are run again."""

_SEEDS = ("seed", "mask_seed", "init_seed", "data_seed")
# Settings without an effect on the numbers, and those that enter the identifier in another form: data and weights by
# their fingerprints, the budget as a count, guests by their source.
OF_DATA = {
    "data", "test", "task", "text", "label", "labels", "label_words", "task_type", "metric", "scoring", "encoding",
    "separator", "on_missing", "on_overlap",
}  # fmt: skip
"""Settings that make the task, and enter with its fingerprint."""
_NOT_SHARED = {"save_delta", "side_by_side", "track", "backbone", "budget", "imports", *OF_DATA, *_SEEDS}
SHARED_FIELDS = tuple(name for name in RunConfig.model_fields if name not in _NOT_SHARED)
"""Settings that enter the identifier as they are."""


def run_id(
    config: RunConfig,
    *,
    shared: Mapping[str, JsonValue],
    task_fingerprint: str,
    backbone_fingerprint: str,
    num_trainable: int,
    guests: Sequence[str] = (),
) -> str:
    """The identifier of a run.

    Args:
        config: its seeds enter.
        shared: `shared_settings` of it, which many runs have in common.
        task_fingerprint: of the task's definition and data.
        backbone_fingerprint: of the backbone's files.
        num_trainable: N; a budget may be written in many ways.
        guests: fingerprints of the imported guests' source.

    Returns:
        16 hex digits.
    """
    seeds = [config.resolved_seed("mask_seed"), config.resolved_seed("init_seed"), config.resolved_seed("data_seed")]
    content = [NUMERIC_VERSION, dict(shared), task_fingerprint, backbone_fingerprint, num_trainable, seeds]
    content += [list(guests)] if guests else []  # no empty list: runs without guests keep the identifier they had
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def shared_settings(config: RunConfig) -> dict[str, JsonValue]:
    """The settings that enter an identifier as they are.

    Returns:
        Plain data by field.
    """
    values: dict[str, JsonValue] = config.model_dump(mode="json", include=set(SHARED_FIELDS))
    if config.carrier == "auto":  # runs that ask for none keep the identifier they had before one could
        del values["carrier"]
    if config.max_test_samples is None:  # likewise
        del values["max_test_samples"]
    # Biases and norms once decayed, too: runs with decay have other numbers since, all others keep their identifier.
    decay: JsonValue = [config.weight_decay, "not biases and norms"] if config.weight_decay else config.weight_decay
    return {**values, "weight_decay": decay, "eval_steps": config.resolved_eval_steps}


ENDINGS = (
    "config.json", ".safetensors", ".bin", ".gguf", "tokenizer.json", "special_tokens_map.json", "added_tokens.json",
    ".model", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip
"""Endings of the files that make a backbone what it is: shape, weights, tokens."""


def backbone_fingerprint(name: str) -> str:
    """Fingerprint of a backbone's files: names and whole contents. A hub id's is its cached commit.

    Returns:
        16 hex digits, or ``id@commit``.
    """
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
"""Bytes from which a file's fingerprint is cached: below, hashing takes less time than looking into the cache."""


def file_fingerprint(file: Path) -> str:
    """sha256 of a whole file and its size; a large file is read once, and again when it was written to.

    Returns:
        64 hex digits.
    """
    stat = file.stat()
    if stat.st_size < LARGE:
        return _content_fingerprint(file, stat.st_size)
    # ctime, too: a file that is changed in place may be given its old mtime back, but not its old ctime.
    version = [str(file.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    cached = cache_folder() / "digests" / hashlib.sha256(json.dumps(version).encode()).hexdigest()[:24]
    try:
        known = cached.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        known = ""
    if len(known) == 64:
        return known
    computed = _content_fingerprint(file, stat.st_size)
    write_cached(cached, lambda part: part.write_text(computed, "ascii"))
    return computed


def _content_fingerprint(file: Path, size: int) -> str:
    h = hashlib.sha256(str(size).encode())
    with file.open("rb") as f:
        while block := f.read(2**20):
            h.update(block)
    return h.hexdigest()


LATER_FIELDS = ("type", "choices", "target_mean", "target_std", "scoring")
"""Fields of a task that runs of before had no need of."""


def task_fingerprint(task: Task, data: str | None) -> str | None:
    """Fingerprint of a task's definition and its data's files.

    Args:
        task: the definition.
        data: file or folder in place of the task's own source.

    Returns:
        16 hex digits; None where the data are not on this machine.

    Raises:
        ApetError: a test file that is not there.
    """
    reading = [task.source.encoding, task.source.separator]
    # Fields that came later are left out where they say what was so before: such runs keep their identifier.
    later = {name for name in LATER_FIELDS if getattr(task, name) == Task.model_fields[name].default}
    definition = task.model_dump_json(exclude={"description", "source", *later}) + json.dumps(reading)
    if task.source.test:
        test = Path(task.source.test)
        if not test.is_file():
            raise ApetError(f"there is no test file {task.source.test!r}; give a data file, such as test.csv")
        definition += f"test {file_fingerprint(test)}"
    if data is None and task.source.generator:
        return _joined(definition, generated_fingerprint(task))
    if data is None and task.source.hub:
        cached = cached_dataset(task.source.hub, task.source.config)
        return None if cached is None else _joined(definition, cached)
    files = source_files(task, data)
    if files is None:
        return None
    return _joined(definition, *(f"{f.name} {file_fingerprint(_archive_of(f))}" for f in files))


def _archive_of(file: Path) -> Path:
    """The zip archive that a path leads into, else the file itself."""
    return next((p for p in file.parents if p.suffix == ".zip"), file)


def _joined(*parts: str) -> str:
    # With a separator: joined without one, ("ab", "c") and ("a", "bc") would have the same fingerprint.
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
