"""Both distributions as users get them: built, looked into, installed into a clean environment, tried.

    python benchmarks/packages.py                   # what they need is taken from this environment: a minute
    python benchmarks/packages.py --install         # what they need is installed, in the versions of requirements.txt
    python benchmarks/packages.py --newest          # what they need is installed, the newest of each: gigabytes
    python benchmarks/packages.py --python python3.12 --install     # another interpreter

A wheel must hold what its distribution needs and nothing else: no tests, no weights but the microworld's. An sdist must
build that wheel. The smoke test plans, tunes, predicts, reports and imports from outside of the repository.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = {"apet": ROOT, "apet-microworld": ROOT / "microworld"}
NOT_SOURCE = shutil.ignore_patterns(
    ".venv", ".git", "runs", "build", "dist", "site", "*.egg-info", "microworld", "__pycache__", ".*_cache"
)
SMOKE = """
import apet
assert "site-packages" in apet.__file__, apet.__file__
assert apet.plan("bert-small", "apet", budget=1000).num_trainable == 1000
run = apet.Run("run")
assert run.result.num_trainable == 256, run.result
"""
COMMANDS = (
    ("--version",),
    ("methods",),
    ("study", "plan", "quick"),
    (
        "tune",
        "--backbone",
        "microworld-t5-mini",
        "--method",
        "lora",
        "--budget",
        "256",
        "--output",
        "run",
        "max_steps=2",
    ),
    ("predict", "run", "a tender plot"),
    ("report", "run"),
)


def build(name: str, folder: Path) -> tuple[Path, Path]:
    """Build sdist and wheel, the wheel from the sdist, as index and installers do.

    Args:
        name: of the distribution.
        folder: for both.

    Returns:
        sdist, wheel.
    """
    source = folder / f"{name}-source"
    shutil.copytree(PROJECTS[name], source, ignore=NOT_SOURCE)  # a build leaves files beside its sources
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, stdout=subprocess.DEVNULL)
    (sdist,) = folder.glob(f"{name.replace('-', '_')}-[0-9]*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*pip, str(sdist)], check=True)
    (wheel,) = folder.glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    return sdist, wheel


def contents(archive: Path) -> dict[str, int]:
    """Files of an sdist or wheel, below its first folder for an sdist, and their bytes."""
    if archive.suffix == ".whl":
        return {i.filename: i.file_size for i in zipfile.ZipFile(archive).infolist()}
    with tarfile.open(archive) as tar:
        return {m.name.partition("/")[2]: m.size for m in tar.getmembers() if m.isfile()}


def faults(archive: Path) -> list[str]:
    """What an archive lacks, or holds and should not.

    Args:
        archive: an sdist or wheel of one of the two distributions.

    Returns:
        A line for each; empty where all is well.
    """
    names = contents(archive)
    is_microworld = "microworld" in archive.name
    is_wheel = archive.suffix == ".whl"
    package = "apet_microworld" if is_microworld else "apet"
    needed = ["py.typed", "__init__.py", *(["tasks/microworld-sst2.yaml"] if is_microworld else ["suites/paper.yaml"])]
    needed = [f"{'' if is_wheel else 'src/'}{package}/{n}" for n in needed]
    needed += [] if is_wheel else ["pyproject.toml", "README.md", "LICENSE", "PKG-INFO"]
    lines = [f"lacks {n}" for n in needed if n not in names]
    if not any(n.rpartition("/")[2] == "LICENSE" for n in names):
        lines.append("lacks its license")
    weights = [n for n in names if n.endswith(".safetensors")]
    if len(weights) != (14 if is_microworld else 0):
        lines.append(f"has {len(weights)} files of weights")
    if is_wheel:
        allowed = re.compile(rf"{package}(-[^/]*\.dist-info)?/")
        lines += [f"holds {n}" for n in names if not allowed.match(n) or "/test_" in n]
    return lines


def environment(folder: Path, python: str, install: Sequence[str], linked: bool) -> Path:
    """Make a virtual environment.

    Args:
        folder: for it.
        python: interpreter that makes it.
        install: what pip installs.
        linked: take everything else from this environment, by a path file, and install without dependencies.

    Returns:
        Its folder of programs.
    """
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    programs = folder / "bin"
    if linked:
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "linked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(programs / "pip"), "--disable-pip-version-check", "install", "-q", "--no-compile"]
    subprocess.run([*pip, *(["--no-deps"] if linked else []), *install], check=True)
    return programs


def smoke(programs: Path, folder: Path) -> None:
    """Plan, tune, predict, report and import, from a folder outside of the repository."""
    folder.mkdir()
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    clean |= {"APET_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "APET_TRACEBACK": "1"}
    for words in COMMANDS:
        done = subprocess.run([str(programs / "apet"), *words], cwd=folder, env=clean, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"apet {' '.join(words)}: {done.stderr.strip()}")
        print(f"apet {' '.join(words)}: {(done.stdout.strip().splitlines() or [''])[-1]}")
    subprocess.run([str(programs / "python"), "-c", SMOKE], cwd=folder, env=clean, check=True)


def main() -> None:
    """Build, look, install, try; leaves with an error where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="install what they need as requirements.txt pins it")
    parser.add_argument("--newest", action="store_true", help="install the newest of what they need")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the new environment")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, wheels = Path(place), []
        for name in PROJECTS:
            for archive in build(name, folder):
                wrong = faults(archive)
                print(
                    f"{archive.name}: {len(contents(archive))} files, {archive.stat().st_size:,} bytes",
                    *wrong,
                    sep="; ",
                )
                if wrong:
                    sys.exit(1)
                wheels += [str(archive)] if archive.suffix == ".whl" else []
        pins = ["-c", str(ROOT / "requirements.txt")] if given.install else []
        linked = not (given.install or given.newest)
        programs = environment(folder / "venv", given.python, [*wheels, *pins], linked=linked)
        subprocess.run([str(programs / "python"), "--version"], check=True)
        smoke(programs, folder / "elsewhere")


if __name__ == "__main__":
    main()
