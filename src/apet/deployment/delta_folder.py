"""A run as a small folder for whoever has apet: the delta, what it belongs to, and a script that answers texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from apet.checkpoint import DELTA_FILE, HEAD_FILE
from apet.errors import ApetError
from apet.tasks.task import Task
from apet.training.config import RunConfig
from apet.training.manifest import write_manifest
from apet.training.output_folder import RESULT
from apet.training.result import RunResult
from apet.training.run_dir import CONFIG, TASK, RunFolder, dump_yaml

LOADER = "answer.py"

_SCRIPT = '''"""Answers texts with the delta in this folder; needs apet and the backbone {backbone!r}.

python {name} "a text" …     several columns ({columns}) are separated by tabs
"""

import sys
from pathlib import Path

from apet.training.inference import TunedModel, parse_columns

tuned = TunedModel(Path(__file__).parent)  # TunedModel(..., backbone="folder") if the backbone has moved
for answer in tuned.predict([parse_columns(tuned.task, text) for text in sys.argv[1:]]):
    print(answer.text)
'''


def write_delta_folder(run_folder: Path, run: RunFolder, folder: Path) -> None:
    """Copy what is needed to answer texts: everything of a run but its curve and its predictions.

    Paths of data files are left out, since a reader of the folder has neither them nor a use for them.

    Args:
        run_folder: of the run.
        run: what it holds.
        folder: exists.

    Raises:
        ApetError: the run was made without saving its values.
    """
    if not (run_folder / DELTA_FILE).is_file():
        raise ApetError(f"the run at {str(run_folder)!r} has no {DELTA_FILE}: it was made with save_delta=false")
    for name in (DELTA_FILE, HEAD_FILE):
        if (run_folder / name).is_file():
            shutil.copyfile(run_folder / name, folder / name)
    config, task, result = _without_paths(run)
    dump_yaml(folder / CONFIG, config.model_dump(mode="json"))
    dump_yaml(folder / TASK, task.model_dump(mode="json", exclude_defaults=True))
    (folder / RESULT).write_text(json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n", "utf-8")
    script = _SCRIPT.format(backbone=config.backbone, name=LOADER, columns=", ".join(task.columns))
    (folder / LOADER).write_text(script, "utf-8")


def seal(folder: Path, run: RunFolder) -> None:
    """Write the manifest, by which apet predict takes the folder for what it is: when all other files are written."""
    write_manifest(folder, run.result.run_id)


def _without_paths(run: RunFolder) -> tuple[RunConfig, Task, RunResult]:
    def bare(config: RunConfig) -> RunConfig:
        return config if config.data is None else config.model_copy(update={"data": Path(config.data).name})

    return bare(run.config), bare_task(run.task), run.result.model_copy(update={"config": bare(run.result.config)})


def bare_task(task: Task) -> Task:
    """A task without the folders of its data files."""
    source = task.source
    files = {split: Path(path).name for split, path in source.files.items()} if not source.package else source.files
    return task.model_copy(update={"source": source.model_copy(update={"files": files})})
