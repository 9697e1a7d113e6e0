"""Everything that determines a run, described once: the command line, YAML files and results all use these fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator

from apet.backbones.family import ObjectiveName
from apet.delta import CarrierChoice
from apet.errors import ApetError
from apet.registry import import_guest
from apet.setting_names import UnknownSettingError
from apet.settings import Settings, why_not
from apet.tasks.metrics import TaskType
from apet.training.eval_steps import EvalSteps
from apet.yaml_text import read_mapping

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
"""Trackers that a run may be seen in; see `apet.training.tracking`."""

DEFAULT_BUDGET = "default"
"""The budget word for a method's own default size."""


class RunConfig(Settings):
    """Settings of a run: one backbone x task x method x budget x seed, and how it is trained.

    Defaults are the paper's (appendix B.1: batch 32, no warm-up, its learning rates) where it has one.
    """

    backbone: str
    """Packaged name, folder made by save_pretrained, or hub id."""
    task: str | None = None
    """Name of a task that ships, or a YAML file. Not needed beside data, text and label."""
    data: str | None = None
    """A data file, or a folder with train.* and validation.*, in place of the task's own source."""
    test: str | None = None
    """A data file with the test rows; without it, those of the task or of the data's folder, if there are any."""
    text: tuple[str, ...] = ()
    """Columns to read, where data stands without a task."""
    label: str | None = None
    """Column with the class, where data stands without a task."""
    task_type: TaskType | None = None
    """What is asked, where data stands without a task; none = as the values tell."""
    metric: str | None = None
    """A registered metric; without it, the task's."""
    labels: dict[str, str] = Field(default={})
    """Value in the label column -> word, such as {1: bad, 2: good}, where data stands without a task; empty = the
    values themselves."""
    label_words: Literal["transfer"] | None = None
    """transfer = no and yes by the task's transfer labels, words that all tasks share, for zero-shot transfer; none =
    the task's own."""
    scoring: Literal["generate", "likelihood"] | None = None
    """How backbones that write answer with a label: generate = what they write, a miss counts as wrong; likelihood =
    the likeliest label; none = the task's, which is likelihood for data without a task."""
    encoding: str | None = None
    """Of text files, such as cp1252; without it, the task's, else it is found out and said."""
    separator: str | None = None
    """Between the cells of CSV files; without it, the task's, else the one that parts every line alike."""
    on_missing: Literal["refuse", "drop"] | None = None
    """What happens to rows without a text or a label: refuse or drop; none = the task's, which is refuse."""
    on_overlap: Literal["refuse", "drop"] | None = None
    """What happens to training rows that are held out, too: refuse or drop; none = the task's, which is refuse."""
    method: str = "apet"
    """A registered method; `-adjacent` or `-discrete` may follow its name."""
    method_settings: dict[str, JsonValue] = Field(default={})
    """Settings of the method, such as rank or roles."""
    budget: int | str | None = None
    """4096, 0.3%, =lora; none = the method's default size."""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    """Seed of the run: of each purpose below that has none of its own."""
    mask_seed: int | None = None
    """Seed that decides which entries are unmasked."""
    init_seed: int | None = None
    """Seed of the initial values, and of the head's."""
    data_seed: int | None = None
    """Seed of the order of the examples, and of dropout."""
    max_steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Examples a step, over all processes."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["paper", "auto"] = "paper"
    """A number; paper = the method's (3e-4, prompt 3e-2, RTE 5e-5); auto = a seeded search on held-out train data."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW, on all trained values but biases and the scales of norms."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; none = unlimited. Our choice, the paper names none."""
    eval_steps: EvalSteps | None = None
    """Steps between measurements on validation; log = at powers of the square root of 2 (1, 2, 3, 4, 6, 8, 11 …), to
    compare speeds; none = a tenth of the steps."""
    objective: Literal["auto"] | ObjectiveName = "auto"
    """auto = T5 writes, decoders continue, encoders fill in a label word or, without such a head, name the class."""
    head: Literal["trained", "frozen"] = "trained"
    """Whether a classification head is trained; its parameters are counted apart."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the frozen weights; auto = bfloat16 where the hardware computes with it. Trained values are float32."""
    device: Literal["auto", "cpu"] = "auto"
    """auto = the accelerator that is found, else the CPU."""
    device_map: Literal["auto"] | None = None
    """auto = one backbone over all devices of this machine, layer after layer; none = the whole of it on one device."""
    max_train_samples: int | None = Field(default=None, ge=1)
    """Training examples, at most; none = all."""
    max_eval_samples: int | None = Field(default=None, ge=1)
    """Validation and test examples, at most; none = all."""
    max_test_samples: int | None = Field(default=None, ge=1)
    """Test examples, at most, which are measured once, at the end; none = as many as ``max_eval_samples``."""
    max_input_length: int | None = Field(default=None, ge=8)
    """Tokens of an input; none = the task's."""
    target_score: float | None = Field(default=None, ge=0, le=1)
    """Stop once the validation metric, in [0, 1], reaches this: for searches that need to know no more."""
    carrier: CarrierChoice = "auto"
    """How deltas of parameters act: auto = the cheapest that is certified for each; see apet inspect."""
    gradient_checkpointing: bool = False
    """Less memory, more time."""
    side_by_side: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Runs of one backbone and task that are trained in one pass, at most; auto = several where that is faster."""
    num_threads: int | None = Field(default=None, ge=1)
    """Processor threads; none = PyTorch's choice. Results may differ in the last bits between numbers of threads."""
    save_delta: bool = True
    """Whether the trained values are saved; without them a run can be neither used again nor transferred."""
    track: TrackerName | None = None
    """Tracker that losses and scores also go to, offline, in a folder beside the run; none = no tracker."""
    imports: tuple[str, ...] = ()
    """Guests that register methods, tasks or others by name: Python or YAML files, or importable modules."""

    @field_validator("imports")
    @classmethod
    def _absolute_files(cls, specs: tuple[str, ...]) -> tuple[str, ...]:
        # Workers, and whoever uses the run later, stand in other folders.
        files = (".py", ".yaml", ".yml")
        return tuple(str(Path(s).expanduser().absolute()) if s.endswith(files) else s for s in specs)

    @property
    def task_name(self) -> str:
        """What is learned, as it was given: the task, or the data file that stands for one."""
        return self.task or str(self.data)

    @property
    def data_folder(self) -> str | None:
        """Data in place of the task's own source; None where the task's own is read, or the data are the task."""
        return None if self.task is None else self.data

    @property
    def axes(self) -> RunAxes:
        """The run in a study's words."""
        budget = DEFAULT_BUDGET if self.budget is None else str(self.budget)
        label = method_label(self.method, self.method_settings)
        return RunAxes(self.backbone, self.task_name, label, budget, self.seed)

    def resolved_seed(self, purpose: Literal["mask_seed", "init_seed", "data_seed"]) -> int:
        """The seed of a purpose: its own, else that of the run."""
        seed: int | None = getattr(self, purpose)
        return self.seed if seed is None else seed

    @property
    def resolved_eval_steps(self) -> EvalSteps:
        """Steps between measurements: as given, else a tenth of the steps."""
        return self.eval_steps or max(1, self.max_steps // 10)


@dataclass(frozen=True)
class RunAxes:
    """A run's place in a study, in the study's words.

    Attributes:
        backbone: as given.
        task: name, YAML file or data file, as given.
        method: with its settings, as tables call it.
        budget: as given; ``default`` = the method's own size.
        seed: of the run.
    """

    backbone: str
    task: str
    method: str
    budget: str
    seed: int

    def as_dict(self) -> dict[str, str]:
        """Axis -> value as text, as patterns are matched against it."""
        return {axis: str(value) for axis, value in asdict(self).items()}


def method_label(method: str, settings: Mapping[str, JsonValue]) -> str:
    """What tables call a method: ``lora``, ``apet-discrete``, ``lora(rank=4)``."""
    # The distribution is a part of the name, as in the paper's APET-discrete; other settings follow in brackets.
    rest = dict(settings)
    distribution = rest.pop("distribution", None)
    name = f"{method}-{distribution}" if distribution else method
    return name + (f"({', '.join(f'{k}={v}' for k, v in rest.items())})" if rest else "")


def import_guests(config: RunConfig) -> None:
    """Import the guests that a run names, each once a process, so that their names are found.

    Raises:
        ApetError: one does not load.
    """
    for spec in config.imports:
        import_guest(spec)


def validate_config(values: Mapping[str, object], where: str = "settings") -> RunConfig:
    """Settings from plain data.

    Args:
        values: field -> value.
        where: what holds them, for messages.

    Returns:
        The settings, every field checked.

    Raises:
        ApetError: the first field that does not fit, with what came.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as e:
        first = e.errors()[0]
        if not first["loc"]:  # of the whole: a key that is no text
            raise ApetError(f"{where}: {first['msg'].lower()}; give such as max_steps=300") from e
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ApetError(f"{where}: {UnknownSettingError('setting', key, RunConfig.model_fields)}") from e
        if first["type"] == "missing":
            raise ApetError(f"{where}: {key} is missing; give {key}=… or --{key}") from e
        why = why_not(e, RunConfig)
        raise ApetError(f"{where}: {key}={values.get(key)!r} does not fit: {why}; {field_help(key)}") from e


def field_help(key: str) -> str:
    """The line that describes a field."""
    return RunConfig.model_fields[key].description or ""


def read_config(path: Path) -> dict[str, JsonValue]:
    """The mapping of a settings file.

    Returns:
        Field -> value, not yet checked.

    Raises:
        ApetError: no such file, not YAML, or not a mapping.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as e:
        raise ApetError(f"cannot read settings from {str(path)!r}: {' '.join(str(e).split())}") from e
    return read_mapping(text, f"settings file {str(path)!r}")


def apply_overrides(base: Mapping[str, JsonValue], pairs: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings with ``key=value`` pairs over them; a key that only the method has goes to its settings.

    Returns:
        Field -> value, the method's own fields under ``method_settings``; not yet checked.

    Raises:
        UnknownSettingError: a key that neither a run nor the method has.
        ApetError: ``method_settings`` is not a mapping.
    """
    from apet.methods import make_method  # needs torch, which reading a record does not

    # The method comes first, also where it stands last: its fields decide where the other keys go.
    out = dict(base)
    name = str(pairs.get("method", out.get("method", RunConfig.model_fields["method"].default)))
    method_fields = type(make_method(name)).model_fields
    of_method = _mapping(out.get("method_settings"))
    for key, value in pairs.items():
        if key in method_fields:
            of_method[key] = value
        elif key == "method_settings":
            of_method |= _mapping(value)
        elif key in RunConfig.model_fields:
            out[key] = value
        else:
            raise UnknownSettingError(f"setting of a run or of {name}", key, [*RunConfig.model_fields, *method_fields])
    if of_method:
        out["method_settings"] = of_method
    return out


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    if value is not None and not isinstance(value, dict):
        raise ApetError(f"method_settings={value!r} is not a mapping; write such as method_settings: {{rank: 4}}")
    return dict(value or {})
