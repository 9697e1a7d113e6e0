"""Every test runs offline, on one thread (two workers share the cores), with warnings of the hub silenced."""

import importlib
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

from apet import registry

settings.register_profile("apet", deadline=None)  # shared machines drift; a slow draw is no failure
settings.load_profile("apet")
torch.set_num_threads(1)

REGISTRIES = {
    "apet.methods.method": "METHODS",
    "apet.masks.distributions.distribution": "DISTRIBUTIONS",
    "apet.layers.base": "LAYERS",
    "apet.backbones.family": "FAMILIES",
    "apet.backbones.registry": "BACKBONES",
    "apet.tasks.task": "TASKS",
    "apet.tasks.metrics": "METRICS",
    "apet.studies.executors": "EXECUTORS",
    "apet.studies.study_file": "SUITES",
}


@pytest.fixture(autouse=True)
def guests_leave_after_each_test():
    """What a test registers is no part of what the next one in this process lists."""
    registries = [getattr(importlib.import_module(m), name) for m, name in REGISTRIES.items()]
    # What ships is loaded before: else the first test that loads a registry could leave its own entries behind.
    before = [(r, r.entries(), dict(r._origins)) for r in registries]
    imported = dict(registry._imported)
    yield
    for r, entries, origins in before:
        r._entries, r._origins = entries, origins
    registry._imported.clear()
    registry._imported.update(imported)
