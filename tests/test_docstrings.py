"""Docstrings keep what they promise: public names show how they are used, and what they raise is written down."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from pathlib import Path

import pytest

import apet

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/apet"
FILES = sorted([*SOURCE.rglob("*.py"), *(ROOT / "microworld/src").rglob("*.py")])
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", apet.__all__)
def test_every_public_name_shows_how_it_is_used(name):
    docstring = inspect.getdoc(getattr(apet, name)) or ""
    assert ">>>" in docstring, f"apet.{name} has no example"


@pytest.mark.parametrize("name", apet.__all__)
def test_the_example_runs_and_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public = getattr(apet, name)
    reports: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in doctest.DocTestFinder(recurse=False).find(public, name, globs={}):
        runner.run(example, out=reports.append)
    assert not runner.failures, "".join(reports)


def _functions_that_raise() -> list[object]:
    """Public functions and methods whose own body raises an apet error; a command says it in its help."""
    errors = {node.name for node in ast.parse((SOURCE / "errors.py").read_text("utf-8")).body if hasattr(node, "name")}
    params = []
    for path in (p for p in FILES if "cli" not in (p.parent.name, p.stem)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _raised(node) & errors:
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                params.append(pytest.param(node, id=f"{place}:{node.name}"))
    return params


def _raised(function: ast.FunctionDef) -> set[str]:
    """Names of the exceptions that a function raises itself; a function within it answers for itself."""
    inner = {
        id(x) for f in ast.walk(function) if isinstance(f, ast.FunctionDef) and f is not function for x in ast.walk(f)
    }
    calls = (n.exc for n in ast.walk(function) if isinstance(n, ast.Raise) and id(n) not in inner)
    return {c.func.id for c in calls if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)}


@pytest.mark.parametrize("function", _functions_that_raise())
def test_what_a_function_raises_is_written_down(function):
    assert re.search(r"^ *Raises:$", ast.get_docstring(function) or "", re.M)


EMPTY_PHRASES = r"\b[Aa]s above\b|^As `|^Of E\d|^Every entry"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_docstring_says_itself_what_it_means(path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        docstring = ast.get_docstring(node) if isinstance(node, kinds) else None
        assert not docstring or not re.search(EMPTY_PHRASES, docstring), f"{path.name}: {docstring}"
