"""The exact commands to train the recommended arm for good, to test, to use and to export it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from apet.recommendation.arms import Family
from apet.recommendation.parts import PartFiles
from apet.training.config import RunConfig

TRAIN_FULLY = 1000
"""Steps of the command that trains the answer for good, at least."""
_OPTIONS = ("backbone", "task", "data", "label", "method", "budget", "max_steps")
_NOT_SAID = ("text", "seed", "eval_steps", "imports", "save_delta")


def commands(config: RunConfig, parts: PartFiles, run: str, folder: Path, columns: Sequence[str]) -> dict[str, str]:
    """Command lines by purpose.

    Args:
        config: of a whole run of the arm.
        parts: where the rows lie.
        run: folder of the run that was tested.
        folder: for what the commands write.
        columns: that a row is read by.

    Returns:
        Purpose -> command, quoted for a shell.
    """
    config = config.model_copy(update={"max_steps": max(TRAIN_FULLY, config.max_steps)})
    given = config.model_dump(mode="json", exclude_defaults=True)
    train = ["apet", "tune"]
    for guest in config.imports:
        train += ["--import", guest]
    for key in _OPTIONS:
        if given.get(key) is not None:
            train += [f"--{key.replace('_', '-')}", _from_here(str(given[key]))]
    for column in config.text:
        train += ["--text", column]
    for key, value in given.items():
        if key not in (*_OPTIONS, *_NOT_SAID) and value not in (None, [], {}):
            pairs = value.items() if key == "method_settings" else [(key, value)]
            train += [f"{k}={_word(v)}" for k, v in pairs]
    trained = str(folder / "trained")
    return {
        "train it fully": shlex.join([*train, "--output", trained]),
        "test that": shlex.join(["apet", "evaluate", trained, "--split", "test", "--data", str(parts.test)]),
        "predict": shlex.join(["apet", "predict", run, *_new_texts(columns)]),
        "export": shlex.join(["apet", "export", run, str(folder / "exported"), "--to", "transformers"]),
    }


def rank_of(family: Family, num_trainable: int) -> int | None:
    """Rank of a LoRA of that many parameters; None below rank 1, between two ranks, and for other methods."""
    if not family.per_rank:
        return None
    rank, rest = divmod(num_trainable, family.per_rank)
    return rank if rank and not rest else None


def _new_texts(columns: Sequence[str]) -> list[str]:
    """What is answered: a text, or where there are several columns a file that has them."""
    return ["your text"] if len(columns) < 2 else ["--data", "new.csv", "--output", "answers.csv"]


def _from_here(word: str) -> str:
    """A path inside the current folder as it is seen from there: commands are typed where this one was."""
    path = Path(word)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else word


def _word(value: JsonValue) -> str:
    """A value as ``key=value`` takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
