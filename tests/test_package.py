"""The package's names, whatever was imported before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import apet
from apet_microworld.scales import SCALES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "first", ["apet.attachment", "apet.methods", "apet.training.run", "apet.planning", "apet.methods.lora", "apet"]
)
def test_public_names_are_functions_whoever_imported_the_modules_of_the_same_names(first):
    """`import apet.training.run` once turned apet.attach and apet.methods into modules."""
    code = f"import {first}, apet, types\n"
    code += "assert not [n for n in apet.__all__ if isinstance(getattr(apet, n), types.ModuleType)]"
    subprocess.run([sys.executable, "-c", code + "\napet.list_methods()['lora']"], check=True)


def test_the_version_is_that_of_the_installed_package():
    assert apet.__version__ == version("apet")
    check = "import sys, apet; apet.__version__; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def build_wheel(project: Path, folder: Path) -> Path:
    """The wheel of a project, built from a copy, since a build leaves files beside its sources."""
    skip = shutil.ignore_patterns(
        ".venv", ".git", "runs", "build", "*.egg-info", "microworld", "docs", "tests", ".*_cache"
    )
    shutil.copytree(project, folder / "project", ignore=skip if (project / "docs").is_dir() else None)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(folder / "project")], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_core_wheel_is_small_and_without_the_microworld(tmp_path):
    wheel = build_wheel(ROOT, tmp_path)
    assert wheel.stat().st_size <= 1_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert {"apet/py.typed", "apet/suites/paper.yaml", "apet/tasks/library/sst2.yaml"} <= set(names)
    assert not [name for name in names if "microworld" in name or name.endswith(".safetensors")]


@pytest.mark.slow
def test_the_wheel_of_the_microworld_has_all_that_it_registers(tmp_path):
    wheel = zipfile.ZipFile(build_wheel(ROOT / "microworld", tmp_path))
    names = wheel.namelist()
    for folder, ending, count in (
        ("weights", "model.safetensors", len(SCALES)),
        ("tasks", ".yaml", 11),
        ("suites", ".yaml", 2),
    ):
        inside = [n for n in names if n.startswith(f"apet_microworld/{folder}/") and n.endswith(ending)]
        assert len(inside) == count, folder
    points = wheel.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {line for line in points.splitlines() if line.startswith("[")} == {
        "[apet.tasks]",
        "[apet.suites]",
        "[apet.backbones]",
        "[apet.commands]",
    }
    assert any(n.endswith("licenses/LICENSE") for n in names)


@pytest.mark.slow
def test_both_distributions_build_install_into_a_clean_environment_and_work(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "benchmarks/packages.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "apet report run: run/report/report.html" in done.stdout


def test_a_release_puts_single_changes_into_the_changelog(tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "+prompts.new.md").write_text("Prompts of two lengths in one batch.\n")
    words = ["build", "--keep", "--version", "9.9.9", "--date", "2030-01-01", "--dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "towncrier", *words], check=True, capture_output=True)
    old, new = (ROOT / "CHANGELOG.md").read_text("utf-8"), (tmp_path / "CHANGELOG.md").read_text("utf-8")
    head, _, rest = new.partition("## 9.9.9 (2030-01-01)")
    assert head.split() == ["#", "Changes", "<!--", "releases", "-->"]
    assert rest.split("## 0.1.0")[0].split() == [
        "###",
        "New",
        *["-", "Prompts", "of", "two", "lengths", "in", "one", "batch."],
    ]
    assert new.endswith(old[old.index("## 0.1.0") :])


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'apet' has no attribute 'atach'"):
        apet.atach  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    check = "import apet, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
