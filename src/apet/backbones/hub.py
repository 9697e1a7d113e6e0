"""The Hugging Face Hub, or its absence: known at once, not after a minute of retries."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants

TIMEOUT_SECONDS = 3.0
"""Seconds to wait for an answer."""


@cache
def detect_offline() -> None:
    """Where the hub cannot be reached, work from its cache alone: the hub's own offline mode, switched on by itself.

    Behind a proxy nothing is tried: only the proxy knows.
    """
    if constants.HF_HUB_OFFLINE or any(os.environ.get(v) for v in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), TIMEOUT_SECONDS).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for libraries that are not imported yet
        constants.HF_HUB_OFFLINE = True
        config = sys.modules.get("datasets.config")
        if config is not None:
            setattr(config, "HF_HUB_OFFLINE", True)


def cached_dataset(name: str, config: str | None) -> str | None:
    """Fingerprint of a dataset in the cache, or None where it is not there; the network is not asked."""
    home = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    place = Path(home) / name.replace("/", "___") / (config or "default")
    fingerprints = sorted(p.parent.name for p in place.glob("*/*/dataset_info.json"))
    return fingerprints[-1] if fingerprints else None
