"""The record of a run: the one definition of result.json, curve.csv, predictions.csv, and of what is made of them.

A study's SQLite columns, the tables of `apet.Study`, the headers of exported files, the JSON schema and
``docs/results-schema.md`` are all derived from these types; a field that is added here appears in each of them.
Nothing in this module needs torch or transformers, so that records are read in milliseconds.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apet.errors import ApetError
from apet.tasks.metrics import METRICS
from apet.training.config import RunConfig

Score = Annotated[float, Field(ge=0, le=1)]
"""A share, in [0, 1]."""
MetricValue = Annotated[float, Field(allow_inf_nan=False)]
"""A metric over examples, of which more is better: a share in [0, 1], a correlation, of an error its negative."""
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """A typed record: frozen, and strict about types, since it is read from files that anyone may have changed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, protected_namespaces=(), use_attribute_docstrings=True
    )


class LearningRateTrial(Record):
    """One candidate of a learning-rate search (``learning_rate=auto``)."""

    learning_rate: float
    """The candidate."""
    max_steps: int
    """Optimizer steps it was trained for."""
    score: MetricValue | None
    """Metric on held-out training examples, in [0, 1]; none = the training diverged."""


class ClassCounts(Record):
    """The answers of one class of a classification task."""

    label: str
    """Its label word."""
    examples: Count
    """Examples of the class."""
    answered: Count
    """Times it was the answer."""
    right: Count
    """Times it was the right answer."""
    f1: Score
    """Harmonic mean of precision, right / answered, and recall, right / examples."""


class RunResult(Record):
    """Everything that a finished run records, flat: one row of a study."""

    run_id: str
    """Names the run: 16 hex digits over everything that determines its numbers."""
    backbone: str
    """The backbone as it was asked for: packaged name, folder or hub id."""
    backbone_family: str
    """Architecture family of the backbone, such as t5, bert or gpt2."""
    backbone_class: str
    """transformers class of the model that was trained."""
    num_backbone_parameters: Count
    """Parameters of the backbone, tied tensors once, a task head included: the denominator of trainable_percent."""
    backbone_fingerprint: str
    """Fingerprint of the frozen weights, 16 hex digits; the same in float32 and bfloat16."""
    dtype: str
    """Precision of the frozen weights, float32 or bfloat16. Trained values are float32."""
    device: str
    """Where the backbone lay, such as cpu or NVIDIA H100."""
    task: str
    """Name of the task."""
    category: str
    """Category of the task, such as sentiment or inference."""
    metric: str
    """What the scores are, such as accuracy, f1 or rouge-l."""
    task_type: str = "single-label"
    """What the task asks: single-label, multi-label, regression, token-classification, multiple-choice or
    text-generation."""
    objective: str
    """How the backbone solves the task: classification-head, masked-label-word, text-to-text or next-token, or the head
    of the task's type."""
    scoring: Literal["generate", "likelihood"] | None = None
    """How a backbone that writes answered with labels: generate = what it wrote, a miss is wrong; likelihood = the
    likeliest label; none = it chose among classes, or wrote free text."""
    method: str
    """The method as tables call it, such as lora, apet-discrete or lora(rank=4)."""
    method_settings: dict[str, object]
    """Settings of the method that differ from its defaults."""
    budget: str | None
    """The budget as it was asked for, such as 4096, 0.3% or =lora; none = the method's default."""
    num_trainable: Count
    """Trainable parameters N, exact; a task head is not among them."""
    trainable_percent: float
    """N in percent of the backbone's parameters."""
    head: Literal["none", "trained", "frozen"]
    """Whether there is a task head that pre-training did not make, and whether it was trained."""
    num_head_parameters: Count
    """Parameters of the task head, counted apart from N."""
    head_parameters: list[str]
    """Names of the task head's parameters in the model."""
    seed: int
    """Seed of the run; the three below default to it."""
    mask_seed: int
    """Seed that decides which entries are unmasked."""
    init_seed: int
    """Seed of the initial values, and of the head's."""
    data_seed: int
    """Seed of the order of the examples, and of dropout."""

    score: MetricValue
    """Metric on the validation split with the values that were kept, in [0, 1]."""
    ci_low: MetricValue
    """Lower end of the score's 95 % interval over validation examples."""
    ci_high: MetricValue
    """Upper end of the score's 95 % interval over validation examples."""
    ci_method: Literal["wilson", "bootstrap"]
    """How the intervals over examples are computed: Wilson's for accuracy, percentile bootstrap for the others."""
    num_examples: Annotated[int, Field(ge=1)]
    """Validation examples that the score is the mean of."""
    score_untrained: MetricValue
    """Validation score before the first step."""
    score_last: MetricValue
    """Validation score at the last step, whose values need not be those that were kept."""
    majority_baseline: Score | None
    """Share of the most frequent label in the validation split; none = a task without labels."""
    macro_f1: Score | None
    """Mean F1 over the classes that occur in the validation split; none = a task without labels."""
    class_counts: list[ClassCounts]
    """The validation answers by class, in the order of the labels; empty for a task without labels."""
    num_other_answers: Count | None
    """Validation answers that are none of the label words: generated ones may be; none = a task without labels."""
    untrained_baseline: MetricValue
    """Validation score of guessing: 0 where answers are generated, else the share of the most frequent label."""
    other_scores: dict[str, float] = {}
    """Other metrics of the task's type over the same validation answers; empty for single labels."""
    test_score: MetricValue | None
    """Metric on the test split, taken once, with the values that were kept; none = the task has no test split."""
    test_ci_low: MetricValue | None
    """Lower end of the test score's 95 % interval over test examples."""
    test_ci_high: MetricValue | None
    """Upper end of the test score's 95 % interval over test examples."""
    test_macro_f1: Score | None
    """Mean F1 over the classes that occur in the test split; none = no test split, or a task without labels."""
    test_num_examples: Count | None
    """Test examples that the test score is the mean of."""

    selection: str
    """The rule by which the kept values were chosen among the measurements."""
    best_step: Count
    """Step whose values were kept."""
    max_steps: Count
    """Optimizer steps that were asked for."""
    stopped_at: Count | None
    """Step at which the run ended because it had reached target_score; none = it ran to max_steps."""
    side_by_side: Annotated[int, Field(ge=1)] = 1
    """Runs that were trained in one pass, this one included; each ends as it would alone, but for rounding."""
    batch_size: Count
    """Examples a step, over all processes."""
    learning_rate: float
    """Learning rate as used, constant."""
    learning_rate_rule: Literal["paper", "given", "auto"]
    """Where the learning rate comes from: the method's default, a number that was given, or a search."""
    learning_rate_trials: list[LearningRateTrial]
    """Candidates of a learning-rate search, in the order in which they were tried; empty without a search."""
    learning_rate_search_steps: Count
    """Optimizer steps of all candidates of a learning-rate search together."""
    learning_rate_search_seconds: Seconds
    """Time of a learning-rate search, seconds."""

    notes: list[str] = []
    """What was decided where the settings left it open, such as another objective, and why."""

    data_fingerprint: str
    """Fingerprint of the examples of all splits, 16 hex digits."""
    split_sizes: dict[str, int]
    """Split -> examples that were used."""
    num_truncated: dict[str, int]
    """Split -> examples of which something was cut off."""
    max_input_length: Count
    """Tokens of an input, at most; special tokens included."""
    data_notes: list[str]
    """What was done to the data: made up, rows left out, splits held out."""

    cautions: list[str] = Field(default=[])
    """What a reader of the score must not miss: at chance, texts truncated, a head trained beside the delta."""

    training_seconds: Seconds
    """Time of the optimizer steps, without measuring, seconds."""
    steps_per_second: float
    """Optimizer steps a second while training."""
    total_seconds: Seconds
    """Time of the whole run, from reading the data to the last measurement, seconds."""
    started: str
    """When the run began, UTC, ISO 8601."""
    peak_memory_bytes: Count
    """Largest memory use, bytes: of the GPUs together, else of the process."""
    versions: dict[str, str]
    """Library -> version, of everything that a number depends on."""
    host: dict[str, object]
    """The machine: system, threads, cores."""
    imports: dict[str, str]
    """Guest files and modules that were imported -> fingerprint of their source, 16 hex digits."""
    config: RunConfig
    """The settings as they were given; config.yaml beside the result holds them with everything open filled in."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> RunResult:
        scores = [self.score, self.ci_low, self.ci_high, self.score_untrained, self.score_last, self.untrained_baseline]
        scores += [x for x in (self.test_score, self.test_ci_low, self.test_ci_high) if x is not None]
        if self.metric in METRICS and METRICS.get(self.metric).in_percent:  # a guest's may be any number
            outside = [x for x in scores if not 0 <= x <= 1]
            if outside:
                raise ValueError(f"{self.metric} is {outside[0]}; it is a share, from 0 to 1")
        if not self.ci_low <= self.score <= self.ci_high:
            raise ValueError(f"score {self.score} is outside its interval [{self.ci_low}, {self.ci_high}]")
        if self.class_counts:
            answered = sum(c.answered for c in self.class_counts) + (self.num_other_answers or 0)
            if {sum(c.examples for c in self.class_counts), answered} != {self.num_examples}:
                raise ValueError(f"class_counts are not of {self.num_examples} examples")
            share = sum(c.right for c in self.class_counts) / self.num_examples
            if self.metric == "accuracy" and abs(share - self.score) > 1e-6:
                raise ValueError(f"score {self.score} is not the share of right answers in class_counts, {share}")
        if self.best_step > self.max_steps:
            raise ValueError(f"best_step {self.best_step} is after max_steps {self.max_steps}")
        return self


class CurvePoint(Record):
    """One measurement along a run: a row of curve.csv and of a study's curves."""

    step: Count
    """Optimizer steps done."""
    loss: float | None
    """Mean training loss since the measurement before; none at step 0."""
    score: MetricValue
    """Metric on the validation split, in [0, 1]."""
    ci_low: MetricValue
    """Lower end of the score's 95 % interval over validation examples."""
    ci_high: MetricValue
    """Upper end of the score's 95 % interval over validation examples."""
    seconds: Seconds
    """Time of training so far, without measuring, seconds."""


class Prediction(Record):
    """The answer to one example: a row of predictions.csv or test_predictions.csv."""

    location: str
    """Where the example stands in the data: file and line."""
    prediction: str
    """What the model answered, as it wrote it; where that is none of the label words it scores 0."""
    references: str
    """The accepted answer; a JSON list where several are accepted."""
    score: MetricValue | None
    """Score of the answer, in [0, 1] unless the metric is another; none = it is one of the whole split."""


class TransferRecord(Record):
    """A run measured on another task without further training: a row of a study's transfers."""

    target: str
    """The task that was measured."""
    score: MetricValue
    """Metric on the target's validation split, in [0, 1]."""
    ci_low: MetricValue
    """Lower end of the score's 95 % interval over examples."""
    ci_high: MetricValue
    """Upper end of the score's 95 % interval over examples."""
    num_examples: Count
    """Examples of the target that were measured."""
    majority_baseline: Score | None
    """Score of always answering the target's most frequent transfer label; none for free text."""


ColumnKind = Literal["text", "integer", "number", "json"]


@dataclass(frozen=True)
class RecordColumn:
    """A field of a record as a table's column.

    Attributes:
        name: of the field and of the column.
        kind: what it holds; ``json`` = a nested value, stored as text.
        nullable: whether the value may be missing in a complete record.
        description: the field's docstring.
    """

    name: str
    kind: ColumnKind
    nullable: bool
    description: str


def columns(record: type[Record]) -> tuple[RecordColumn, ...]:
    """The fields of a record type as table columns, in their order.

    Returns:
        One column a field.
    """
    return tuple(
        RecordColumn(name, *_kind(field.annotation), (field.description or "").replace("\n", " "))
        for name, field in record.model_fields.items()
    )


def scalar_columns(record: type[Record]) -> tuple[RecordColumn, ...]:
    """The columns of a record type that hold a single text or number.

    Returns:
        `columns` without the nested ones.
    """
    return tuple(c for c in columns(record) if c.kind != "json")


def _kind(annotation: object) -> tuple[ColumnKind, bool]:
    """Column kind of a field's type, and whether None is a value of it."""
    # The bounds of a number are its own; a column only needs to know that it is one.
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return (_kind(inner[0])[0] if len(inner) == 1 else "json"), True
    if get_origin(annotation) is Literal or annotation is str:
        return "text", False
    if annotation is int:
        return "integer", False
    return ("number" if annotation is float else "json"), False


def read_result(path: Path) -> RunResult:
    """A run's result.json, checked field by field.

    Returns:
        The record.

    Raises:
        ApetError: it cannot be read, was written by another version, or a field does not hold what it should.
    """
    try:
        return RunResult.model_validate_json(path.read_text("utf-8"))
    except ValidationError as e:
        raise ApetError(f"{path.name} is damaged, or was written by another version of apet: {explain(e)}") from e
    except (OSError, ValueError) as e:
        raise ApetError(f"{path.name} cannot be read ({e})") from e


def explain(error: ValidationError) -> str:
    """The first fault of a record in words: which field, what it holds, what was expected.

    Returns:
        One sentence without its full stop.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"it has no {field}"
    if not field:  # the fault is of the whole, such as text that is not JSON
        return first["msg"].lower()
    return f"{field} is {first['input']!r:.40}; {first['msg'].lower()}"


def schema_markdown() -> str:
    """docs/results-schema.md: every field of the three record files of a run.

    Returns:
        The page as Markdown.
    """
    parts = ["# What a run records", "Written by `apet study schema --markdown` from `apet.training.result`."]
    files: Mapping[str, tuple[type[Record], str]] = {
        "result.json": (
            RunResult,
            "One object a run. Text and numbers are also the columns of `apet study export` and of `Study.runs()`;"
            " `json` fields are nested and stand in result.json and, as text, in study.sqlite.",
        ),
        "curve.csv": (CurvePoint, "One row a measurement, the untrained model first."),
        "predictions.csv": (
            Prediction,
            "One row a validation example, in the order of the data; test_predictions.csv the same of the test split.",
        ),
    }
    for name, (record, about) in files.items():
        rows = [
            f"| `{c.name}` | {c.kind}{' or none' if c.nullable else ''} | {c.description} |" for c in columns(record)
        ]
        parts += [f"## {name}", about, "\n".join(["| field | holds | meaning |", "| --- | --- | --- |", *rows])]
    parts += ["The JSON schema of result.json: `apet study schema`."]
    return "\n\n".join(parts) + "\n"
