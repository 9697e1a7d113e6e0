"""What the documents say can be done: links lead somewhere, names exist, commands parse."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "examples", "microworld")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
LIVING = [p for p in PAGES if p.name not in ("CHANGELOG.md", "log.md")]  # the others tell of what once was
"""Pages that speak of the present."""
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.M | re.S)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _commands(page: Path) -> list[str]:
    """Command lines of a page: indented or fenced ones, whole, and those within a sentence."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    fenced = [line for _, _, code in FENCE.findall(text) for line in code.splitlines() if line.startswith("apet ")]
    return [*fenced, *re.findall(r"^ {4}(apet .*)$", text, re.M), *re.findall(r"`(apet [a-z][^`]*)`", text)]


COMMANDS = sorted({(_name(p), line) for p in LIVING for line in _commands(p)})


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{_name(page)}: {target}"


@pytest.mark.parametrize("page", LIVING, ids=_name)
def test_every_name_of_the_package_exists(page):
    for name in set(re.findall(r"`(apet(?:\.\w+)+)(?:\(.*?\))?`", page.read_text("utf-8"))):
        if name not in _entry_point_groups():
            _resolve(name)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_line_parses(page, line):
    words = [w for w in shlex.split(line, comments=True)[1:] if w not in ("…", "...")]
    command, arguments = _command(words)
    options = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--import", "--help"}
    given = {w.partition("=")[0] for w in arguments if w.startswith("--")}
    assert given <= options, f"{page}: {line}"
    for setting in (w.partition("=")[0] for w in arguments if re.match(r"\w+=", w) and _takes_settings(command)):
        assert setting in _settings(), f"{page}: {line}: {setting} is not a setting"


def test_the_reference_has_every_public_name():
    import apet

    page = (ROOT / "docs/api.md").read_text("utf-8")
    assert {f"apet.{name}" for name in apet.__all__} <= set(re.findall(r"^::: (apet\.\w+)$", page, re.M))


def test_the_sites_menu_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    menu = re.findall(r"^ +- (\S+\.md)$", text, re.M)
    left_out = re.compile(r"results/micropaper/report/")
    pages = [str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(menu) == sorted(p for p in pages if not left_out.match(p))


def _entry_point_groups() -> set[str]:
    kinds = "methods distributions layers families tasks metrics executors suites backbones commands"
    return {f"apet.{kind}" for kind in kinds.split()}


def _resolve(name: str) -> Any:
    """A module, or an attribute of one, by its dotted name."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            fields = getattr(value, "model_fields", {})
            value = fields[part] if part in fields else getattr(value, part)
        return value
    raise AssertionError(name)


def _command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and the words that are left for it."""
    from typer.main import get_command

    from apet.cli.app import app

    command: Any = get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        subcommand = command.get_command(None, words[0])  # a guest's commands are looked up when they are asked for
        assert subcommand is not None, f"apet {' '.join(words)}"
        command, words = subcommand, words[1:]
    return command, words


def _takes_settings(command: Any) -> bool:
    return any("key=value" in (getattr(p, "help", None) or "") for p in command.params)


@cache
def _settings() -> set[str]:
    """Every key that may stand before ``=``: of a run, of a study, of a method."""
    import apet
    from apet.studies.study_config import StudyConfig
    from apet.training.config import RunConfig

    of_methods = (key for method in apet.list_methods().values() for key in method.model_fields)
    return {*RunConfig.model_fields, *StudyConfig.model_fields, *of_methods}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.csv")), ids=_name)
def test_columns_of_stored_results_are_plain_names_and_counts_are_integers(path):
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", column) for column in header)
    assert len(set(header)) == len(header)
    for column, values in zip(header, zip(*rows, strict=True), strict=True):
        if re.search(r"(^|_)num_(trainable|seeds|examples|tasks|missing)$", column):
            assert all(re.fullmatch(r"\d*", value) for value in values), column


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (citation["title"].split(":")[0], citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == project["license"]
    assert citation["preferred-citation"]["type"] == "conference-paper"
