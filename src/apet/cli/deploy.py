"""Commands that lead from a finished run to a model in production, and from peft back: export, push, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apet.cli.options import Json, MovedBackbone, RunFolderArgument
from apet.cli.output import format_bytes, print_json

ExportTo = Annotated[
    str, typer.Option("--to", metavar="transformers|peft|delta", help="What is written: see the text above.")
]


def export(
    run: RunFolderArgument,
    folder: Annotated[Path, typer.Argument(help="New folder for what is written.")],
    to: ExportTo = "transformers",
    backbone: MovedBackbone = None,
    json: Json = False,
) -> None:
    """Write a run as a folder that others serve.

    transformers: a plain model, which a pipeline serves without apet. peft: an adapter of that library.
    delta: the trained values and a script, for whoever has apet and the backbone. Each comes with a model card.
    """
    from apet.deployment.export import export as run_export

    done = run_export(run, folder, to, backbone=backbone)  # type: ignore[arg-type]  # it refuses other words itself
    if json:
        print_json(
            {
                "folder": str(done.folder),
                "to": done.kind,
                "files": dict(done.files),
                "usage": done.usage,
                "notes": list(done.notes),
            }
        )
        return
    size = format_bytes(sum(done.files.values()))
    print(f"{done.folder}: {len(done.files)} files, {size}, for {done.kind}")
    for note in done.notes:
        print(f"note: {note}")
    print(f"\n{done.usage.rstrip()}")


def push(
    run: RunFolderArgument,
    repo_id: Annotated[str, typer.Argument(help="Name of the repository: name, or owner/name.")],
    to: ExportTo = "transformers",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files that would go, and ask no hub.")] = False,
    backbone: MovedBackbone = None,
    json: Json = False,
) -> None:
    """Upload a run to the Hugging Face Hub.

    What goes is what export writes. The token is that of HF_TOKEN or of hf auth login.
    """
    from apet.deployment.hub import push as run_push

    done = run_push(
        run,
        repo_id,
        to,  # type: ignore[arg-type]  # it refuses other words itself
        private=private,
        dry_run=dry_run,
        backbone=backbone,
    )
    if json:
        print_json({"repo_id": done.repo_id, "url": done.url, "files": dict(done.files), "notes": list(done.notes)})
        return
    for name, size in done.files.items():
        print(f"{format_bytes(size):>8}  {name}")
    for note in done.notes:
        print(f"note: {note}")
    print(done.url or f"dry run: {len(done.files)} files would go to {done.repo_id}")


def import_(
    adapter: Annotated[Path, typer.Argument(help="Folder of an adapter, from peft's save_pretrained.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the delta.")],
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Backbone of the adapter; without it, the one that it names.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Name or YAML file of the task that it learned; with it, apet predict reads the folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Take an adapter of peft as a delta.

    apet.load(model, FOLDER) attaches it. LoRA, (IA)³, prompts, LN-tuning, BEFT, SHiRA and Super-Tuning are read.
    """
    from apet.deployment.import_adapter import import_adapter

    done = import_adapter(adapter, folder, backbone=backbone, task=task)
    if json:
        print_json(
            {
                "folder": str(done.folder),
                "form": done.form,
                "backbone": done.backbone,
                "num_trainable": done.num_trainable,
                "task": done.task,
            }
        )
        return
    print(f"{done.folder}: {done.form} of peft, {done.num_trainable:,} values on {done.backbone}")
    print(f'apet predict {done.folder} "…"' if done.task else "give --task for a folder that apet predict reads")
