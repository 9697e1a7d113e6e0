"""A study is data: backbones x tasks x methods x budgets x seeds, with defaults and a few rules."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from apet.errors import ApetError, UnknownNameError
from apet.methods import make_method
from apet.training.config import DEFAULT_BUDGET, RunConfig, field_help, method_label, validate_config

AXES = ("backbone", "task", "method", "budget", "seed")
DECIDED_BY_AXES = {"backbone", "task", "data", "method", "method_settings", "budget", "seed"}
"""Run settings that the study's axes decide; the others may stand under ``defaults`` and in rules."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)


class Override(_Plain):
    """Something that holds for a part of the grid only. Later rules go over earlier ones."""

    match: dict[str, str | int | list[str | int]]
    """Axis -> pattern or patterns; all must match: ``{backbone: 'bert-*', task: [nq-open, samsum]}``."""
    exclude: bool = False
    """Leave these cells out."""
    budgets: tuple[str, ...] | None = None
    """Their budgets, in place of the study's."""
    seeds: tuple[int, ...] | None = None
    """Their seeds, in place of the study's."""
    set_: dict[str, Any] = Field(default={}, alias="set")
    """Run settings over the defaults: ``{learning_rate: 1e-4}``."""

    @field_validator("budgets", mode="before")
    @classmethod
    def _as_text(cls, values: Any) -> Any:
        return _texts(values)

    def matches(self, cell: Mapping[str, str]) -> bool:
        """Whether it holds for a cell, given by the axes known so far; an axis that is not known yet matches."""
        for axis, wanted in self.match.items():
            patterns = wanted if isinstance(wanted, list) else [wanted]
            if axis in cell and not any(fnmatch.fnmatchcase(cell[axis], str(p)) for p in patterns):
                return False
        return True

    @property
    def axes(self) -> set[str]:
        """Axes it speaks of."""
        return set(self.match)


class StudyConfig(_Plain):
    """A grid of runs."""

    name: str
    description: str = ""
    """One line for people."""
    backbones: tuple[str, ...] = Field(min_length=1)
    """Packaged names, shapes, folders or hub ids."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks that ship, YAML files, or data files: those have text and label under run_defaults, or set by a rule."""
    methods: tuple[str | dict[str, Any], ...] = Field(min_length=1)
    """Names, with suffixes where wanted (apet-discrete), or mappings with settings: {method: lora, rank: 4}."""
    budgets: tuple[str, ...] = (DEFAULT_BUDGET,)
    """own (the method's full size), 4096, 0.3%, =lora."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Three in the paper."""
    data: str | None = None
    """Where the tasks' data lie, in place of their own sources; {task} stands for the task's name."""
    run_defaults: dict[str, Any] = {}
    """Run settings of every cell."""
    overrides: tuple[Override, ...] = ()
    """Exceptions."""

    @field_validator("budgets", mode="before")
    @classmethod
    def _as_text(cls, values: Any) -> Any:
        return _texts(values)

    def as_yaml(self) -> str:
        """The text that reads as this study."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)

    @classmethod
    def stored(cls, text: str) -> StudyConfig:
        """The study of `as_yaml`; its rules may speak of what words on the command line had left out."""
        return cls(**yaml.safe_load(text))


def _texts(values: Any) -> Any:
    return tuple(str(v) for v in values) if isinstance(values, list | tuple) else values


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        settings: of the run; its budget is as asked.
        label: the method with its settings, as figures and rules call it.
        budget: as asked.
    """

    config: RunConfig
    label: str
    budget: str


def cells(study: StudyConfig) -> Iterator[Cell]:
    """Every run, in the order backbone, task, method, budget, seed.

    Raises:
        ApetError: a method or a setting that does not fit.
    """
    for backbone in study.backbones:
        for task in study.tasks:
            data = study.data.replace("{task}", Path(task).stem.replace("-", "_")) if study.data else None
            for spec in study.methods:
                name, settings = _method(spec)
                label = method_label(name, settings)
                cell = {"backbone": backbone, "task": task, "method": label}
                for budget in _chosen(study, cell, "budgets"):
                    cell["budget"] = budget
                    for seed in _chosen(study, cell, "seeds"):
                        cell["seed"] = str(seed)
                        here = [r for r in study.overrides if r.matches(cell)]
                        if any(r.exclude for r in here):
                            continue
                        more = dict(study.run_defaults)
                        for rule in here:
                            more.update(rule.set_)
                        yield Cell(_settings(backbone, task, data, name, settings, budget, seed, more), label, budget)
                    cell.pop("seed", None)
                cell.pop("budget", None)


def _chosen(study: StudyConfig, cell: Mapping[str, str], what: str) -> Sequence[Any]:
    """Budgets or seeds of a cell: the last rule that gives some, or the study's."""
    values: Sequence[Any] = getattr(study, what)
    for rule in study.overrides:
        own = getattr(rule, what)
        if own is not None and rule.axes <= set(cell) and rule.matches(cell):
            values = own
    return values


_cache: dict[str, RunConfig] = {}


def _settings(
    backbone: str,
    task: str,
    data: str | None,
    method: str,
    method_settings: dict[str, Any],
    budget: str,
    seed: int,
    more: dict[str, Any],
) -> RunConfig:
    """Validated once for each combination of everything but budget and seed: a grid may have 100,000 cells."""
    if more.get("text") or more.get("label"):
        if data is not None:
            raise ApetError(
                f"text and label say how data files are read; give these under tasks, without data={data!r}"
            )
        given: dict[str, Any] = {"backbone": backbone, "data": task}
    else:
        given = {"backbone": backbone, "task": task, "data": data}
    given |= {"method": method, "method_settings": method_settings}
    key = repr((given, more))
    if key not in _cache:
        wrong = sorted(DECIDED_BY_AXES & set(more))
        if wrong:
            raise ApetError(f"{wrong[0]} is decided by the study's axes; it cannot stand under run_defaults or set")
        _cache[key] = validate_config({"num_threads": 1, **given, **more}, "study")
    return _cache[key].model_copy(update={"budget": None if budget == DEFAULT_BUDGET else budget, "seed": seed})


def _method(spec: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    settings = dict(spec)
    name = settings.pop("method", None)
    if not isinstance(name, str):
        raise ApetError(f"methods: {spec} names no method; write such as {{method: lora, rank: 4}}")
    return name, settings


def suites() -> dict[str, str]:
    """Studies that ship: name -> what it is."""
    return {
        name: str(yaml.safe_load(file.read_text("utf-8")).get("description", ""))
        for name, file in sorted(_suite_files().items())
    }


def _suite_files() -> dict[str, Path]:
    shelves = [Path(str(resources.files("apet").joinpath("suites")))]
    shelves += [Path(str(point.load().__file__)).parent for point in entry_points(group="apet.suites")]
    return {file.stem: file for shelf in shelves for file in shelf.glob("*.yaml")}


def load_study(name: str, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """A study by its file, or one that ships by its name.

    Args:
        name: path of a YAML file, or the name of a suite.
        overrides: ``key=value`` pairs: of the study (``seeds=[0]``), else of its defaults (``max_steps=50``).

    Raises:
        UnknownNameError: neither a file nor a suite.
        ApetError: a wrong key or value, with its line.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        text = path.read_text("utf-8", errors="replace")
    elif name.removesuffix(".yaml") in suites():
        name = name.removesuffix(".yaml")
        text = _suite_files()[name].read_text("utf-8")
    else:
        raise UnknownNameError("study", name, suites())
    return parse_study(text, name, overrides or {})


def parse_study(text: str, where: str, overrides: Mapping[str, Any]) -> StudyConfig:
    """A study from YAML text."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ApetError(f"{where}{line}: no YAML ({getattr(e, 'problem', e)})") from e
    except ValueError as e:  # a word that looks like a date or a number and is none
        at, word = _no_value(text)
        raise ApetError(f"{where}:{at}: {word} is no value ({e}); write it in quotes if it is text") from e
    if not isinstance(raw, dict):
        raise ApetError(f"{where}: holds no mapping; expected lines such as 'backbones: [...]'")
    _refuse_other_keys(text, where)
    _check_rules(_valid(raw, text, where), text, where)
    raw = dict(raw)
    for key, value in overrides.items():
        if key in StudyConfig.model_fields:
            raw[key] = value
        elif key in RunConfig.model_fields:
            raw["run_defaults"] = {**(raw.get("run_defaults") or {}), key: value}
        else:
            raise UnknownNameError(
                "setting of a study or of its runs", key, [*StudyConfig.model_fields, *RunConfig.model_fields]
            )
    study = _valid(raw, text, where)
    _check_values(study, text, where, overrides)
    return study


def _check_values(study: StudyConfig, text: str, where: str, overrides: Mapping[str, Any]) -> None:
    """Run settings and methods, each with its line; what came with the command has none."""
    for n, more in enumerate([study.run_defaults, *(r.set_ for r in study.overrides)]):
        for key, value in more.items():
            wrong = _wrong_setting(key, value)
            if wrong and n == 0 and key in overrides:
                raise ApetError(wrong)
            if wrong:
                place: tuple[str | int, ...] = ("run_defaults", key) if n == 0 else ("overrides", n - 1, "set", key)
                raise ApetError(f"{where}:{_line_of(text, place)}: {wrong}")
    for n, spec in enumerate(study.methods):
        try:
            name, settings = _method(spec)
            make_method(name, **settings)
        except ApetError as e:
            if "methods" in overrides:
                raise
            raise ApetError(f"{where}:{_line_of(text, ('methods', n))}: {e}") from e


def _wrong_setting(key: str, value: Any) -> str | None:
    """What is wrong with a run setting under run_defaults or set."""
    known = [*RunConfig.model_fields]
    if key not in known:
        return str(UnknownNameError("run setting", key, known))
    if key in DECIDED_BY_AXES:
        return f"{key} is decided by the study's axes; it cannot stand under run_defaults or set"
    try:
        RunConfig.model_validate({"backbone": "", key: value})
    except ValidationError:
        return f"{key}={value!r} does not fit; {field_help(key)}"
    return None


def _valid(raw: dict[str, Any], text: str, where: str) -> StudyConfig:
    try:
        return StudyConfig(**raw)
    except ValidationError as e:
        first = e.errors()[0]
        raise ApetError(f"{where}:{_line_of(text, first['loc'])}: {_message(first)}") from e


def _check_rules(study: StudyConfig, text: str, where: str) -> None:
    """A rule that speaks of nothing in its study is a mistake; words on the command line may narrow the study later."""
    values = {
        "backbone": study.backbones,
        "task": study.tasks,
        "method": [method_label(*_method(spec)) for spec in study.methods],
    }
    for n, rule in enumerate(study.overrides):
        for axis, wanted in rule.match.items():
            line = _line_of(text, ("overrides", n, "match", axis))
            if axis not in AXES:
                raise ApetError(f"{where}:{line}: {UnknownNameError('axis', axis, AXES)}")
            decided = _decided_before(rule, axis)
            if decided:
                raise ApetError(
                    f"{where}:{line}: a rule with {decided} cannot ask for the {axis}: {decided} are decided first;"
                    " give other axes under where, or skip what is not wanted"
                )
            for pattern in wanted if isinstance(wanted, list) else [wanted]:
                if axis in values and not fnmatch.filter(values[axis], str(pattern)):
                    raise ApetError(f"{where}:{line}: {UnknownNameError(axis, str(pattern), values[axis])}")


def _decided_before(rule: Override, axis: str) -> str | None:
    """Which of a rule's lists is decided before an axis that it asks for is known."""
    if rule.budgets is not None and axis in ("budget", "seed"):
        return "budgets"
    return "seeds" if rule.seeds is not None and axis == "seed" else None


def _message(error: Any) -> str:
    key = ".".join(str(x) for x in error["loc"])
    if error["type"] == "extra_forbidden":
        fields = Override.model_fields if error["loc"][0] == "overrides" else StudyConfig.model_fields
        return str(UnknownNameError("key", str(error["loc"][-1]), fields))
    if error["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {error['msg'].lower()}, came {error['input']!r}"


def _line_of(text: str, path: Sequence[Any]) -> int:
    """The line where a key stands, found in the parsed tree; the nearest parent's where the key is not in the file."""
    node = yaml.compose(text)
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            hit = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if hit is None:
                break
            line, node = hit[0].start_mark.line + 1, hit[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _scalars(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, bool]]:
    """Every word of a file, and whether it is a key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key, True
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.ScalarNode):
        yield node, False


def _no_value(text: str) -> tuple[int, str]:
    """Line and word of the first one that YAML takes for a date or a number and cannot read."""
    for node, _ in _scalars(yaml.compose(text)):
        try:
            yaml.constructor.SafeConstructor().construct_object(node)
        except ValueError:
            return node.start_mark.line + 1, repr(node.value)
    return 1, "something"


def _refuse_other_keys(text: str, where: str) -> None:
    """YAML reads some words, such as no and on, as something else than text; a key is text."""
    for node, is_key in _scalars(yaml.compose(text)):
        if is_key and node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            kind = node.tag.rpartition(":")[2]
            raise ApetError(
                f"{where}:{node.start_mark.line + 1}: key {node.value} reads as {kind} in YAML; write it in quotes"
            )
