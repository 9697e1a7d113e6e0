"""A study as data: backbones x tasks x methods x budgets x seeds, with run defaults and overrides."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from pydantic import Field, JsonValue, field_validator

from apet.errors import ApetError
from apet.settings import Settings
from apet.training.config import DEFAULT_BUDGET
from apet.yaml_text import read_mapping, write_yaml

AXES = ("backbone", "task", "method", "budget", "seed")
DECIDED_BY_AXES = {"backbone", "task", "data", "method", "method_settings", "budget", "seed", "imports"}
"""Run settings that the study itself decides; the others may stand under ``run_defaults`` and in overrides."""


class Override(Settings):
    """Settings for a part of the grid. Later overrides go over earlier ones."""

    match: dict[str, str | int | list[str | int]]
    """Axis -> pattern or patterns; all axes must match: ``{backbone: 'bert-*', task: [nq-open, samsum]}``."""
    exclude: bool = False
    """Leave these cells out."""
    budgets: tuple[str, ...] | None = None
    """Their budgets, in place of the study's."""
    seeds: tuple[int, ...] | None = None
    """Their seeds, in place of the study's."""
    set_: dict[str, JsonValue] = Field(default={}, alias="set")
    """Run settings over the defaults: ``{learning_rate: 1e-4}``."""

    @field_validator("budgets", mode="before")
    @classmethod
    def _as_text(cls, values: object) -> object:
        return _texts(values)

    def matches(self, axes: Mapping[str, str]) -> bool:
        """Whether it holds for a cell.

        Args:
            axes: of the cell, as far as they are known by now; an axis that is not known yet matches.

        Returns:
            Whether all axes that are known match.
        """
        for axis, given in self.match.items():
            patterns = given if isinstance(given, list) else [given]
            # fnmatchcase, since fnmatch itself folds case on some systems: a study means the same runs everywhere.
            if axis in axes and not any(fnmatch.fnmatchcase(axes[axis], str(p)) for p in patterns):
                return False
        return True

    @property
    def axes(self) -> set[str]:
        """Axes that it asks for."""
        return set(self.match)


class StudyConfig(Settings):
    """A grid of runs."""

    name: str
    description: str = ""
    """One line for people."""
    imports: tuple[str, ...] = Field(default=(), alias="import")
    """Python or YAML files (relative to the study's file), or modules, that register methods, metrics and the like."""
    backbones: tuple[str, ...] = Field(min_length=1)
    """Registered names, folders or hub ids."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Registered tasks, YAML files, or data files: these have text and label in run_defaults, or set by an override."""
    methods: tuple[str | dict[str, JsonValue], ...] = Field(min_length=1)
    """Names, with suffixes where wanted (apet-discrete), or mappings with settings: {method: lora, rank: 4}."""
    budgets: tuple[str, ...] = (DEFAULT_BUDGET,)
    """default (the method's full size), 4096, 0.3%, =lora."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Three in the paper."""
    data: str | None = None
    """Where the tasks' data are, in place of their own sources; {task} stands for the task's name, with _ for -."""
    run_defaults: dict[str, JsonValue] = Field(default={})
    """Run settings of every cell."""
    overrides: tuple[Override, ...] = ()
    """Exceptions for parts of the grid."""

    @field_validator("budgets", mode="before")
    @classmethod
    def _as_text(cls, values: object) -> object:
        return _texts(values)

    def to_yaml(self) -> str:
        """YAML text that reads as this study."""
        # In the order of the fields, which is the order in which people write and read a study.
        return write_yaml(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_stored(cls, text: str) -> StudyConfig:
        """The study of `to_yaml`, as a store holds it.

        Overrides are not checked against the axes: words on the command line may have narrowed the study to fewer
        backbones or methods than its overrides speak of. Nothing is imported: a record must stay readable where its
        guests are gone.

        Returns:
            The study.
        """
        return cls.model_validate(read_mapping(text, "the stored study"))


def _texts(values: object) -> object:
    # YAML reads 4096 as an integer; a budget is text, since it may also be 0.3% or =lora.
    if not isinstance(values, list | tuple):
        return values
    return tuple(str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in values)


def split_method(method: str | Mapping[str, JsonValue]) -> tuple[str, dict[str, JsonValue]]:
    """Name and settings of an entry under ``methods``.

    Returns:
        Name, settings.

    Raises:
        ApetError: a mapping that names no method.
    """
    if isinstance(method, str):
        return method, {}
    settings = dict(method)  # a copy: the study's own entry is still to be written as it was given
    name = settings.pop("method", None)
    if not isinstance(name, str):
        raise ApetError(f"methods: {method} names no method; write such as {{method: lora, rank: 4}}")
    return name, settings
