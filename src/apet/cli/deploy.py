"""Commands that lead from a finished run to a model in production: export."""

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
