"""The backbones of this package as apet finds them: registered through the entry point ``apet.backbones``."""

from __future__ import annotations

import json
from pathlib import Path

from apet.backbones.registry import BACKBONES, PackagedBackbone

PACKAGE = "apet_microworld"
DESCRIPTION = (
    "synthetic: pre-trained on {documents:,} documents of the microworld, {parameters:,} parameters; in package"
    " apet-microworld"
)


def register() -> None:
    """Register each scale whose weights ship, ordered by family and size.

    Their accounts are read, not their configurations: a list of names loads no weight and no configuration.
    """
    accounts = (Path(__file__).parent / "weights").glob("*/pretraining.json")
    known = {file.parent.name: json.loads(file.read_text("utf-8")) for file in accounts}
    for name in sorted(known, key=lambda name: (name.rpartition("-")[0], known[name]["parameters"])):
        said = DESCRIPTION.format(documents=known[name]["corpus"]["documents"], parameters=known[name]["parameters"])
        backbone = PackagedBackbone(PACKAGE, f"weights/{name}", said)
        BACKBONES.register(name, backbone, __name__)
