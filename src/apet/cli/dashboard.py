"""Command dashboard: a study as it runs, in a browser on this machine."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def dashboard(
    folders: Annotated[
        list[Path], typer.Argument(help="Folder of a study, which may still run; several parts of a study become one.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 = any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser; without it, print the address alone.")] = True,
) -> None:
    """Watch a study in a browser.

    The page of its report, made anew as runs end; for this machine alone, until Ctrl-C. No file is written.
    """
    from apet.commands.dashboard import Dashboard, server

    with server(Dashboard(folders), port) as listening:
        address = f"http://127.0.0.1:{listening.server_port}/"
        print(f"{address}  (until Ctrl-C)", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            print()
