"""Everything the command line can, Python can by the same words: neither grows without the other."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import apet
from apet.cli.app import app
from apet.cli.own_data import OwnData
from apet.training.config import RunConfig

FUNCTIONS: dict[str, Any] = {
    **{name: getattr(apet, name) for name in (
        "recommend", "tune", "evaluate", "predict", "export", "push", "compare", "thresholds", "transfer", "report",
        "inspect", "positions",
    )},
    "import": apet.import_adapter,
    "methods": apet.list_methods,
    "tasks": apet.list_tasks,
    "backbones": apet.list_backbones,
    "study plan": apet.Study.plan,
    "study run": apet.Study.run,
    "study export": apet.Study.export,
    "study diff": apet.Study.diff,
    "study schema": apet.Study.schema,
}  # fmt: skip
FOR_A_TERMINAL = {
    "dashboard": "a page to be looked at",
    "doctor": "a check-up of the installation, to be read",
    "microworld": "a guest's",
}
"""Commands without a function, and why."""
PRINTED = {"json", "markdown", "help"}
"""How values are printed is no question of Python's, which returns them."""
OTHER_WORDS = {
    ("positions", "backbone"): "model_or_config",
    ("study export", "folder"): "self",
    ("study diff", "first"): "self",
    ("study diff", "second"): "other",
}
"""A model in memory has no name; a study is the object itself."""
OTHER_DEFAULTS = {("compare", "seeds")}
"""A text with commas, and a sequence."""
PYTHON_ALONE = {("report", "log")}
"""What takes a function."""


def commands() -> dict[str, Any]:
    """Every command by its words."""
    found = {}
    for name, command in get_command(app).commands.items():
        subcommands = getattr(command, "commands", None)
        found |= {f"{name} {sub}": c for sub, c in subcommands.items()} if subcommands else {name: command}
    return found


def words(name: str) -> dict[str, Any]:
    """Parameters of a command by the word that Python has for them."""
    parameters = {p.name: p for p in commands()[name].params if p.name not in PRINTED}
    return {OTHER_WORDS.get((name, word), word): p for word, p in parameters.items()}


def test_every_command_is_a_function_or_says_why_not():
    assert set(commands()) - set(FUNCTIONS) - set(FOR_A_TERMINAL) == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_is_a_parameter_of_the_same_name(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    takes_settings = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    settings = {"settings", *RunConfig.model_fields} if takes_settings else set()
    assert set(words(name)) - set(parameters) - settings == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_an_option_of_the_same_name(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    missing = set(parameters) - set(words(name)) - {"settings", "self"}
    assert missing == {word for command, word in PYTHON_ALONE if command == name}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_given_means_the_same(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    for word, option in words(name).items():
        default = parameters[word].default if word in parameters else inspect.Parameter.empty
        # What Python asks for, a command may fill in: the microworld's backbone.
        if default is not inspect.Parameter.empty and (name, word) not in OTHER_DEFAULTS:
            given = str(option.default) if isinstance(option.default, Path) else option.default
            assert (given or None) == (default or None), word


@pytest.mark.parametrize("name", ["tune", "compare", "thresholds", "recommend"])
def test_the_users_own_data_are_named_parameters(name):
    """What an editor completes; how files are read (encoding and the like) goes with the settings."""
    reading = {"encoding", "separator", "on_missing", "on_overlap"}
    assert set(OwnData.__dataclass_fields__) - reading <= set(inspect.signature(FUNCTIONS[name]).parameters)


def test_an_exception_that_nobody_needs_is_removed():
    assert set(FOR_A_TERMINAL) <= {name.partition(" ")[0] for name in commands()} | {"microworld"}
    for name, word in OTHER_WORDS:
        assert word in {p.name for p in commands()[name].params}
