"""Everything that determines a run, described once: the command line, YAML files and results all use these fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError, UnknownNameError
from apet.methods import make_method


class RunConfig(BaseModel):
    """One backbone x task x method x budget x seed, and how it is trained.

    Defaults are the paper's (appendix B.1: batch 32, no warm-up, its learning rates) where it has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)

    backbone: str
    """Packaged name, folder made by save_pretrained, or hub id."""
    task: str | None = None
    """Name of a task that ships, or a YAML file. Not needed beside data, text and label."""
    data: str | None = None
    """A data file, or a folder with train.* and validation.*, in place of the task's own source."""
    text: tuple[str, ...] = ()
    """Columns to read, where data stands without a task."""
    label: str | None = None
    """Column with the class, where data stands without a task."""
    method: str = "apet"
    """A registered method; `-adjacent` or `-discrete` may follow its name."""
    method_settings: dict[str, Any] = {}
    """Of the method, such as rank or roles."""
    budget: int | str | None = None
    """4096, 0.3%, =lora; none = the method's own full size."""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    """Of everything below that is not given."""
    mask_seed: int | None = None
    """Which entries are unmasked."""
    init_seed: int | None = None
    """Their initial values, and the head's."""
    data_seed: int | None = None
    """Order of the examples, and dropout."""
    max_steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Examples a step, over all processes."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["paper", "auto"] = "paper"
    """A number; paper = the method's (3e-4, prompt 3e-2, RTE 5e-5); auto = a seeded search on held-out train data."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW, on the trained values."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; none = unlimited. Our choice, the paper names none."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Steps between measurements on validation; none = a tenth of the steps."""
    objective: Literal["auto"] | ObjectiveName = "auto"
    """auto = T5 writes, decoders continue, encoders fill in a label word or, without such a head, name the class."""
    head: Literal["trained", "frozen"] = "trained"
    """Whether a classification head is trained; its parameters are counted apart."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the frozen weights; auto = bfloat16 where the hardware computes with it. Trained values are float32."""
    device: Literal["auto", "cpu", "spread"] = "auto"
    """auto = what accelerate finds; spread = one backbone over all devices of this machine, layer after layer."""
    max_train_samples: int | None = Field(default=None, ge=1)
    """At most so many for training; none = all."""
    max_eval_samples: int | None = Field(default=None, ge=1)
    """At most so many for validation and test; none = all."""
    max_input_length: int | None = Field(default=None, ge=8)
    """Tokens of an input; none = the task's."""
    target_score: float | None = Field(default=None, ge=0, le=1)
    """Stop once the validation measure, in [0, 1], reaches this: for searches that need to know no more."""
    gradient_checkpointing: bool = False
    """Less memory, more time."""
    num_threads: int | None = Field(default=None, ge=1)
    """Of the processor; none = PyTorch's choice. Results may differ in the last bits between numbers of threads."""
    save_delta: bool = True
    """Whether the trained values are saved; without them a run can be neither used again nor transferred."""

    @property
    def task_name(self) -> str:
        """What is learnt, as it was given: the task, or the data file that stands for one."""
        return self.task or str(self.data)

    def resolved_seed(self, purpose: Literal["mask_seed", "init_seed", "data_seed"]) -> int:
        """The seed of a purpose."""
        own: int | None = getattr(self, purpose)
        return self.seed if own is None else own

    @property
    def resolved_eval_steps(self) -> int:
        """Steps between measurements."""
        return self.eval_steps or max(1, self.max_steps // 10)


def validate_config(values: Mapping[str, Any], where: str = "settings") -> RunConfig:
    """Settings from plain data.

    Raises:
        ApetError: the first field that does not fit, with what came.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as e:
        first = e.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ApetError(f"{where}: {UnknownNameError('setting', key, RunConfig.model_fields)}") from e
        if first["type"] == "missing":
            raise ApetError(f"{where}: {key} is missing; give {key}=… or --{key}") from e
        about = field_help(key)
        raise ApetError(f"{where}: {key}={values.get(key)!r} does not fit; {about}") from e


def field_help(key: str) -> str:
    """The line that describes a field."""
    return RunConfig.model_fields[key].description or ""


def read_config(path: Path) -> dict[str, Any]:
    """The mapping of a settings file.

    Raises:
        ApetError: no such file, no YAML, or no mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise ApetError(f"cannot read settings from {str(path)!r}: {' '.join(str(e).split())}") from e
    if not isinstance(raw, dict):
        raise ApetError(f"settings file {str(path)!r} holds no mapping; expected lines such as 'max_steps: 300'")
    return raw


def apply_overrides(base: Mapping[str, Any], pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with ``key=value`` pairs over them; a key that only the method has goes to its settings.

    Raises:
        UnknownNameError: a key that neither a run nor the method has.
    """
    out = dict(base)
    name = str(pairs.get("method", out.get("method", RunConfig.model_fields["method"].default)))
    own = type(make_method(name)).model_fields
    of_method = _mapping(out.get("method_settings"))
    for key, value in pairs.items():
        if key in own:
            of_method[key] = value
        elif key == "method_settings":
            of_method |= _mapping(value)
        elif key in RunConfig.model_fields:
            out[key] = value
        else:
            raise UnknownNameError(f"setting of a run or of {name}", key, [*RunConfig.model_fields, *own])
    if of_method:
        out["method_settings"] = of_method
    return out


def _mapping(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ApetError(f"method_settings={value!r} is no mapping; write such as method_settings: {{rank: 4}}")
    return dict(value or {})
