"""Saved deltas of a tiny model: what loads has the values that were saved, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import ClassVar

import torch
from pydantic import JsonValue
from torch import Tensor

import apet
from apet.checkpoint import DELTA_FILE, HEAD_FILE
from apet.masks.distributions import DISTRIBUTIONS
from apet.testing.tiny_models import build, shake

from .kind import Kind, WrongError
from .mutations import mutate_bytes, mutate_json

Values = dict[str, Tensor]


class Deltas(Kind):
    """`apet.load` of changed ``delta.safetensors`` and ``head.safetensors``."""

    name: ClassVar[str] = "saved deltas"
    share: ClassVar[float] = 0.15

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        torch.set_num_threads(1)
        self.model = build("bert")
        scored = next(name for name, how in DISTRIBUTIONS.entries().items() if how.needs_scores)
        plans = [
            apet.plan(self.model, "apet", 64, distribution="discrete"),
            apet.plan(self.model, "apet", 200, distribution=scored),
            apet.plan(self.model, "lora", rank=2),
            apet.plan(self.model, "prompt", prompt_length=2),
            replace(apet.plan(self.model, "bitfit"), recipe=None),
        ]
        self.seeds: list[dict[str, bytes]] = []
        self.saved: dict[str, list[tuple[Values, Values]]] = {}
        for n, spec in enumerate([*plans, plans[0]]):
            with apet.attach(self.model, spec, head="trained" if n % 2 else "frozen") as handle:
                shake(handle, seed=n)
                handle.save(place)
                delta, head = _copied(handle)
                self.saved.setdefault(handle.spec.fingerprint, []).append((delta, head))
            files = [f for f in (DELTA_FILE, HEAD_FILE) if (place / f).is_file()]
            self.seeds.append({f: (place / f).read_bytes() for f in files})

    def make(self, rng: Random) -> str:
        """One of the two files of a saved delta, its header or its bytes changed."""
        n, other = rng.randrange(len(self.seeds)), rng.choice(self.seeds)
        files = dict(self.seeds[n])
        file = rng.choice(list(files))
        if rng.random() < 0.4:
            files[file] = _mutate_header(files[file], rng)
        else:
            files[file] = mutate_bytes(files[file], other.get(file, other[DELTA_FILE]), rng)
        if rng.random() < 0.1:  # a whole file of another delta, or none
            files[HEAD_FILE] = other.get(HEAD_FILE, b"")
        for name in (DELTA_FILE, HEAD_FILE):
            (self.place / name).unlink(missing_ok=True)
        for name, raw in files.items():
            if raw:
                (self.place / name).write_bytes(raw)
        return f"{file} of seed {n}: {files[file][:400]!r}"

    def read(self) -> None:
        """Load it, and compare every value with those of the seeds."""
        handle = apet.load(self.model, self.place)
        delta, head = _copied(handle)
        if not any(_same(delta, d) and _same(head, h) for d, h in self.saved.get(handle.spec.fingerprint, [])):
            raise WrongError(f"{handle.spec!r} has values that nobody saved")

    def clean(self) -> None:
        """Detach what was loaded; a refusal must have left nothing attached."""
        for handle in apet.attached(self.model):
            handle.detach()


def _copied(handle: apet.Handle) -> tuple[Values, Values]:
    delta = {name: v.detach().clone() for name, v in handle.values()}
    return delta, {name: v.detach().clone() for name, v in handle.head_values()}


def _same(one: Values, two: Values) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def _mutate_header(raw: bytes, rng: Random) -> bytes:
    """A safetensors file whose JSON, or the recipe inside it, was changed and is still JSON."""
    length = int.from_bytes(raw[:8], "little")
    header: dict[str, JsonValue] = json.loads(raw[8 : 8 + length])
    changed: JsonValue = header
    if rng.random() < 0.6:
        metadata = header["__metadata__"]
        assert isinstance(metadata, dict)
        recipe = mutate_json(json.loads(str(metadata["apet"])), rng)
        changed = {**header, "__metadata__": {**metadata, "apet": json.dumps(recipe)}}
    else:
        changed = mutate_json(header, rng)
    text = json.dumps(changed).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]
