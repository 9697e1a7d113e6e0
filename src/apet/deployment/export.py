"""`apet.export`: a finished run as a folder that others serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

from apet.deployment.delta_folder import LOADER, seal, write_delta_folder
from apet.deployment.model_card import ExportKind, card_text, hub_name
from apet.deployment.peft_folder import peft_lines, require_peft_knows, write_peft_folder
from apet.deployment.plain_model import write_plain_model
from apet.deployment.usage import PLACE, Usage, require_known, scores_labels, usage_of
from apet.errors import ApetError, UnknownNameError
from apet.tasks.objectives.classification_head import ClassificationHead
from apet.training.inference import TunedModel
from apet.training.output_folder import new_folder, require_free
from apet.training.run_dir import RunFolder, read_run

CARD = "README.md"
ROWS = 200
"""Validation texts on which a pipeline's tokens are held against the run's."""

_MADE_UP = ("a", "A film, warm and clever.", "naïve – café 漢字 (1990's)", 'what\'s this? "nothing"')
"""Texts to compare tokens on where the run's data are not at hand."""


class FinishedRun(Protocol):
    """A run as a value, such as `apet.Run`."""

    folder: Path


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: with the files.
        kind: transformers, peft or delta.
        files: name → bytes, the largest first.
        usage: lines of Python or of a shell that answer a text.
        notes: what a user must know about it.
    """

    folder: Path
    kind: ExportKind
    files: Mapping[str, int]
    usage: str
    notes: tuple[str, ...]


def export(
    run: str | Path | FinishedRun, folder: str | Path, to: ExportKind = "transformers", *, backbone: str | None = None
) -> Exported:
    """Write a finished run as a folder that others serve, with a model card.

    Args:
        run: finished run, or its folder.
        folder: new, or empty; it takes its name when all is on the disk.
        to: ``transformers``: a plain model, for ``pipeline`` without apet; ``peft``: an adapter of that library;
            ``delta``: the trained values and a script, for whoever has apet and the backbone.
        backbone: where the run's backbone is by now, if it moved.

    Returns:
        What was written, and how it is called.

    Raises:
        UnknownNameError: there is no such kind.
        NotMergeableError: a plain model cannot hold the run's delta; the message says what to do.
        ApetError: no run there, a damaged one, its backbone is gone or another one, or the folder is taken.
        CannotWriteError: the folder cannot be written.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.export("runs/never-run", "served")
        ... except apet.ApetError as error:
        ...     print(error)
        there is no finished run at 'runs/never-run'; give a folder written by apet tune
    """
    if to not in get_args(ExportKind):
        raise UnknownNameError("kind of export", str(to), get_args(ExportKind))
    run_folder, folder = Path(run if isinstance(run, str | Path) else run.folder), Path(folder)
    stored = read_run(run_folder)
    if backbone is not None:
        stored = stored._replace(config=stored.config.model_copy(update={"backbone": backbone}))
    require_free(folder)  # better known before the backbone is loaded
    with new_folder(folder) as part:
        usage, notes = _WRITERS[to](run_folder, stored, part)
        files = {path.relative_to(part).as_posix(): path.stat().st_size for path in part.rglob("*") if path.is_file()}
    largest_first = dict(sorted(files.items(), key=lambda item: -item[1]))
    return Exported(folder, to, largest_first, usage.replace(PLACE, str(folder)), tuple(notes))


def _plain(run_folder: Path, run: RunFolder, part: Path) -> tuple[str, list[str]]:
    tuned = TunedModel(run_folder, backbone=run.config.backbone)
    require_known(tuned.objective)
    tokenizer = write_plain_model(tuned, part)
    rows, from_data = _rows(tuned)
    usage = usage_of(tuned.objective, tokenizer, rows)
    notes = _notes(tuned, usage, from_data)
    _write_card(part, run, "transformers", usage.pipeline, _python(usage.code), notes)
    return usage.code, notes


def _delta(run_folder: Path, run: RunFolder, part: Path) -> tuple[str, list[str]]:
    write_delta_folder(run_folder, run, part)
    notes = _needs_backbone(run)
    lines = f'python {PLACE}/{LOADER} "…"\napet predict {PLACE} "…"'
    _write_card(part, run, "delta", None, f"With apet and the backbone:\n\n```sh\n{lines}\n```", notes)
    seal(part, run)
    return lines, notes


def _peft(run_folder: Path, run: RunFolder, part: Path) -> tuple[str, list[str]]:
    tuned = TunedModel(run_folder, backbone=run.config.backbone)
    require_peft_knows(tuned.objective)
    notes = [*_needs_backbone(run), *write_peft_folder(tuned, part)]
    code = peft_lines(tuned)
    _write_card(part, run, "peft", None, _python(code), notes)
    return code, notes


_WRITERS: Mapping[ExportKind, Callable[[Path, RunFolder, Path], tuple[str, list[str]]]] = {
    "transformers": _plain,
    "peft": _peft,
    "delta": _delta,
}


def _write_card(
    part: Path, run: RunFolder, kind: ExportKind, pipeline: str | None, usage: str, notes: list[str]
) -> None:
    (part / CARD).write_text(card_text(run.config, run.task, run.result, kind, pipeline, usage, notes), "utf-8")


def _python(code: str) -> str:
    return f"`{PLACE}` is this folder, or the model's name on the hub.\n\n```python\n{code}```"


def _rows(tuned: TunedModel) -> tuple[list[dict[str, str]], bool]:
    """Texts of the run's validation split; made-up ones where its data are not at hand, and which of the two."""
    try:
        splits = tuned.resources.data(tuned.task, tuned.config.data_folder).splits
        return [dict(example.texts) for example in splits["validation"][:ROWS]], True
    except (ApetError, KeyError):
        return [dict.fromkeys(tuned.task.columns, text) for text in _MADE_UP], False


def _needs_backbone(run: RunFolder) -> list[str]:
    if hub_name(run.config.backbone) is None:
        return [f"its backbone is not on the hub: whoever uses it needs {run.config.backbone}, too"]
    return []


def _notes(tuned: TunedModel, usage: Usage, from_data: bool) -> list[str]:
    texts = f"{usage.num_checked} {'validation' if from_data else 'made-up'} texts"
    limit = tuned.objective.max_input_length
    notes = []
    if tuned.objective.name == "text-to-text":
        notes.append("transformers has no pipeline for encoder-decoders any more: the lines call generate")
    if not isinstance(tuned.objective, ClassificationHead):
        notes.append(f"the template is applied by the lines; texts of more than {limit} tokens were cut in training")
    if scores_labels(tuned.objective):
        notes.append("labels have several tokens, and the likeliest answers: no pipeline compares them, the lines do")
    elif not usage.same_tokens:
        notes.append("the tokenizer joins template and text otherwise than in training, so the lines encode them apart")
    elif tuned.objective.name == "token-classification-head":
        notes.append("the lines read a list of tokens, as in training; the pipeline finds words of its own in a text")
    elif usage.num_checked:
        notes.append(f"tokens are those of training on {texts}")
    if tuned.objective.name == "regression-head" and tuned.objective.task.target_std != 1:
        notes.append("the model itself says standardized numbers; the lines put them into the data's units")
    if tuned.config.dtype == "bfloat16":
        notes.append("weights are bfloat16: merged values were rounded, and single answers may differ from the run's")
    return notes
