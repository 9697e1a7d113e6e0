"""Command doctor: what is here and what is missing, before anything is started; torch is not imported."""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from apet.cli.options import Json
from apet.cli.output import format_bytes, print_json

if TYPE_CHECKING:
    from pydantic import JsonValue

NEEDED = ("apet", "torch", "transformers", "accelerate", "tokenizers", "datasets", "safetensors", "numpy", "pandas")
OPTIONAL = {
    "apet-microworld": "a synthetic world: tasks, studies and backbones that need no hub",
    "ray": "studies on many machines (--executor ray)",
    "torchao": "8- and 4-bit backbones",
    "bitsandbytes": "8- and 4-bit backbones",
    "peft": "adapters of peft beside ours",
    "lightning": "its Trainer (apet.lightning_callback)",
}
"""Package -> what it is for."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
PROBE_SECONDS = 1.0
"""To wait for the hub: the answer must come before somebody looks away."""


def doctor(
    backbone: Annotated[
        str | None, typer.Argument(metavar="[BACKBONE]", help="Name, folder or hub id: what it would need here.")
    ] = None,
    json: Json = False,
) -> None:
    """Check what is installed and at hand.

    Versions, devices, the hub, cached backbones and data, the current folder. The exit code is 1 where something that
    is needed is missing.
    """
    offline = _why_offline()
    found: dict[str, JsonValue] = {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in NEEDED}},
        "optional": {name: _version(name) for name in OPTIONAL},
        "devices": list(_gpus()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "offline": offline,
        "backbones": list(_local_backbones()),
        "datasets": list(_cached_tasks()),
        "folder": str(Path.cwd()),
        "folder_writable": _is_writable(Path.cwd()),
        "backbone": None if backbone is None else _check_backbone(backbone, offline),
    }
    problems = _problems(found)
    found["problems"] = list(problems)
    if json:
        print_json(found)
    else:
        _print(found, problems)
    if problems:
        raise typer.Exit(1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """The GPUs' product names, as their driver lists them."""
    lines = [
        line
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in file.read_text("utf-8", errors="replace").splitlines()
    ]
    nvidia = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    apple = ["Apple GPU (mps)"] if (platform.system(), platform.machine()) == ("Darwin", "arm64") else []
    return nvidia + apple


def _why_offline() -> str | None:
    """Why the hub cannot be asked; None where it can."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if any(os.environ.get(v) for v in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return None  # only the proxy knows
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), PROBE_SECONDS).close()
    except OSError:
        return f"{address.hostname} cannot be reached"
    return None


def _local_backbones() -> list[str]:
    """Names whose weights lie in an installed package, and hub ids whose weights lie in the hub's cache."""
    from apet.backbones.registry import package_folder, packaged_backbones

    packaged = [name for name, b in packaged_backbones().items() if package_folder(b.module) is not None]
    return packaged + [name for name, files in _cached_repositories().items() if files & set(WEIGHTS)]


def _cached_repositories() -> dict[str, set[str]]:
    """Hub id -> names of the files that lie in the hub's cache."""
    from huggingface_hub import constants

    return {
        folder.name.removeprefix("models--").replace("--", "/"): {p.name for p in folder.glob("snapshots/*/*")}
        for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*"))
    }


def _cached_tasks() -> list[str]:
    """Tasks whose data lie on this machine."""
    from apet.backbones.hub import cached_dataset
    from apet.tasks.task import registered_tasks

    sources = {name: task.source for name, task in registered_tasks().items()}
    return [
        name
        for name, source in sources.items()
        if (cached_dataset(source.hub, source.config) is not None if source.hub else _has_package(source.package))
    ]


def _has_package(name: str | None) -> bool:
    return name is None or importlib.util.find_spec(name.partition(".")[0]) is not None


def _is_writable(folder: Path) -> bool:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".apet-"):
            return True
    except OSError:
        return False


def _check_backbone(name: str, offline: str | None) -> dict[str, JsonValue]:
    """What a backbone's files are, which of them lie here, and what the rest takes."""
    from apet.backbones.registry import locate_backbone

    location = locate_backbone(name)
    if isinstance(location.source, Path):
        there = {p.name for p in location.source.iterdir()} if location.source.is_dir() else set()
        place = str(location.source)
    else:
        there, place = _cached_repositories().get(location.source, set()), location.source
    needs = {
        "configuration": bool(there & {"config.json"} or location.gguf),
        "weights": bool(there & set(WEIGHTS) or location.gguf),
        "tokenizer": bool(there & set(TOKENIZERS) or location.gguf),
    }
    missing: list[JsonValue] = [what for what, is_there in needs.items() if not is_there]
    on_hub = not isinstance(location.source, Path)
    return {
        "name": name,
        "place": place,
        "on_hub": on_hub,
        "files": [*sorted(there)],
        "missing": missing,
        "download_bytes": _download_bytes(place) if missing and on_hub and offline is None else None,
        "usable": not missing or (on_hub and offline is None),
    }


def _download_bytes(repository: str) -> int | None:
    """Bytes of a repository's safetensors, or of all its weights; None where the hub does not say."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(repository, files_metadata=True, timeout=PROBE_SECONDS).siblings or []
    except Exception:  # no such repository, no right to it, no network: of many classes, and none may end a check-up
        return None
    sizes = {f.rfilename: f.size or 0 for f in files}
    for ending in (".safetensors", ".bin"):
        if any(name.endswith(ending) for name in sizes):
            return sum(size for name, size in sizes.items() if name.endswith(ending))
    return None


def _problems(found: dict[str, JsonValue]) -> list[str]:
    """What is missing and needed, each with its remedy."""
    versions, checked = found["versions"], found["backbone"]
    assert isinstance(versions, dict)
    absent = [name for name, installed in versions.items() if installed is None]
    problems = [f"{name} is not installed: pip install {name}" for name in absent]
    if not found["folder_writable"]:
        problems.append(f"cannot write to {found['folder']}: go to another folder, or give --output")
    if isinstance(checked, dict) and not checked["usable"]:
        missing = ", ".join(map(str, checked["missing"])) if isinstance(checked["missing"], list) else ""
        if checked["on_hub"]:
            problems.append(
                f"{checked['place']} is not on this machine ({missing}), and {found['offline']}: where there is a"
                f" network, hf download {checked['place']} --local-dir FOLDER, and give that folder"
            )
        else:
            problems.append(f"{checked['place']} lacks {missing}: give a folder made by save_pretrained")
    return problems


def _print(found: dict[str, JsonValue], problems: list[str]) -> None:
    versions, optional, checked = found["versions"], found["optional"], found["backbone"]
    assert isinstance(versions, dict)
    assert isinstance(optional, dict)
    print("versions:  " + ", ".join(f"{name} {v or 'missing'}" for name, v in versions.items()))
    print("optional:  " + ", ".join(f"{n} {v or 'not installed'}" for n, v in optional.items()))
    for name in (n for n, v in optional.items() if v is None):
        print(f"           {name}: {OPTIONAL[name]}")
    print(f"devices:   {_listed(found['devices'], 'no GPU')}; {found['cores']} cores, {_threads(found['threads'])}")
    print(f"hub:       {'offline: ' + str(found['offline']) if found['offline'] else 'can be reached'}")
    print(f"backbones: {_listed(found['backbones'], 'none')}")
    print(f"data:      {_listed(found['datasets'], 'of no registered task')}")
    print(f"folder:    {found['folder']} {'can be written' if found['folder_writable'] else 'cannot be written'}")
    if isinstance(checked, dict):
        missing = _listed(checked["missing"], "nothing")
        size = checked["download_bytes"]
        download = f"; to download: {format_bytes(size)}" if isinstance(size, int) else ""
        print(f"backbone:  {checked['name']} ({checked['place']}): missing here: {missing}{download}")
    for problem in problems:
        print(f"problem:   {problem}")
    if not problems:
        print("all that is needed is here")


def _listed(names: JsonValue, otherwise: str) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) and names else otherwise


def _threads(threads: JsonValue) -> str:
    return f"{threads} threads (OMP_NUM_THREADS)" if threads else "PyTorch's choice of threads"
