"""Pre-train one scale from its seed, and leave an ordinary transformers folder with an account of how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from apet.errors import ApetError
from apet_microworld.rng import Rng
from apet_microworld.fingerprint import text_fingerprint
from apet_microworld.documents import corpus
from apet_microworld.expansion import expand
from apet_microworld.objectives import MaskingCollator
from apet_microworld.scales import WEIGHTS, get_scale, mimetic_init
from apet_microworld.tokenizer import build_tokenizer, vocabulary, words

DOCUMENTS, HELD_OUT, BATCH = 60_000, 512, 32
MEASURE_EVERY = 500
WARM_UP, FINAL, CLIP, LEAST_SIZE = 0.04, 0.05, 1.0, 0.01
_AUTOCAST_FROM = 128
"""From this width on, bf16 products are faster than fp32 ones on a CPU that has them."""

Report = Callable[[int, float, float], None]
"""Step, held-out loss, seconds so far."""


def pretrain(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    documents: int = DOCUMENTS,
    init_from: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Pre-train a scale by span corruption (T5) or masked words (BERT) and save it.

    AdamW (0.9, 0.98). A tensor's peak rate is the scale's rate (twice that for embeddings and vectors) times the root
    mean square of its initial values (at least 0.01), as Adafactor scales its steps: T5's embeddings begin a hundred
    times larger than its queries, and one rate for both left every scale on a plateau. The rate rises linearly over
    the first 4 % of the steps and falls along a cosine to 5 %; batches of 32 documents of similar length. The held-out
    documents are other texts about the same world. A scale that grows from a smaller one begins as that one
    (``growing.py``) and reads documents that it has not read.

    Args:
        name: a scale, such as ``microworld-t5-small``.
        folder: must not exist or be empty; gets config.json, model.safetensors (bf16), the tokenizer and
            pretraining.json.
        seed: decides initial weights, corpus, order and what is hidden.
        steps: of 32 documents; None = as the scale says.
        documents: size of the corpus.
        smaller: folder of the scale that this one grows from; None = the weights that ship with the package.
        report: called at every measurement of the held-out loss: the first step, every 500th and the last.

    Returns:
        What pretraining.json holds: settings, corpus hash, measured seconds and the curve of held-out losses (nats
        per hidden word).

    Raises:
        UnknownNameError: no such scale.
        ApetError: the folder is not empty, fewer than one step or one batch was asked for, or the weights of the
            scale that this one grows from are not there.
    """
    shape = get_scale(name)
    steps = shape.max_steps if max_steps is None else max_steps
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ApetError(f"folder {str(folder)!r} is not empty; give one that is new")
    if steps < 1 or documents < BATCH:
        raise ApetError(f"max_steps={steps}, documents={documents}: give at least 1 step and {BATCH} documents")
    begins = _initial_model(name, init_from)
    drawn = seed + 2 * _generation(name)  # seed + 1 draws the held-out documents
    texts = corpus(drawn, documents)
    ids = {word: i for i, word in enumerate(vocabulary())}
    library = [[ids[word] for word in words(text)] for text in texts]
    held_out = [[ids[word] for word in words(text)] for text in corpus(seed + 1, HELD_OUT)]
    model, collator = mimetic_init(name, seed), MaskingCollator()
    mixed = shape.d_model >= _AUTOCAST_FROM
    groups = [{"params": [p], "lr": _relative(n, shape.rate) * _size(p)} for n, p in model.named_parameters()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
    if begins:  # after the rates were taken from the sizes that weights of this scale begin with
        expand(model, begins, seed)
    start, curve = time.perf_counter(), []
    for step, docs in enumerate(_batches(library, drawn, steps), 1):
        inputs = collator.batch(shape.family, docs, Rng(drawn, "hide", str(step)))
        loss = _loss(model, inputs, mixed)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step in (1, steps) or step % MEASURE_EVERY == 0:
            curve.append((step, round(held_out_loss(model, collator, shape.family, held_out, mixed), 4)))
            if report:
                report(step, curve[-1][1], time.perf_counter() - start)
    account = {
        "scale": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": seed,
        "init_from": shape.init_from,
        "steps": steps,
        "batch": BATCH,
        "relative_rate": shape.rate,
        "autocast": "bfloat16" if mixed else None,
        "corpus": {"seed": drawn, "documents": documents, "words": sum(map(len, library)), "sha256": text_fingerprint(texts)},
        "seconds": round(time.perf_counter() - start, 1),
        "threads": torch.get_num_threads(),
        "held_out_loss": curve,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    model.bfloat16().save_pretrained(folder)
    build_tokenizer(shape.family).save_pretrained(folder)
    (folder / "pretraining.json").write_text(json.dumps(account, indent=1) + "\n")
    return account


def _generation(name: str) -> int:
    """0 for a scale that begins by itself, 1 for one that grows from it, and so on."""
    parent = get_scale(name).init_from
    return 0 if parent is None else 1 + _generation(parent)


def _initial_model(name: str, folder: Path | None) -> Any:
    parent = get_scale(name).init_from
    if parent is None:
        if folder is not None:
            raise ApetError(f"{name} begins by itself; it takes no smaller scale, but {str(folder)!r} was given")
        return None
    folder = folder or WEIGHTS / parent
    if not (folder / "config.json").is_file():
        raise ApetError(f"{name} grows from {parent}, and {str(folder)!r} has no config.json; pre-train that first")
    expected, got = get_scale(parent).d_model, T5Config.from_pretrained(folder, local_files_only=True).d_model
    if got != expected:
        raise ApetError(f"{name} grows from {parent} (d_model {expected}), but {str(folder)!r} has d_model {got}")
    return T5ForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def held_out_loss(
    model: nn.Module, collator: MaskingCollator, family: str, docs: list[list[int]], mixed: bool = False, size: int = 64
) -> float:
    """Mean loss over hidden words, in nats; what is hidden is the same at every call."""
    total, count = 0.0, 0
    docs = sorted(docs, key=len)
    with torch.no_grad():
        for i in range(0, len(docs), size):
            inputs = collator.batch(family, docs[i : i + size], Rng(0, "held out", str(i)))
            n = int((inputs["labels"] >= 0).sum())
            total, count = total + float(_loss(model, inputs, mixed)) * n, count + n
    return total / count


def _loss(model: nn.Module, inputs: dict[str, torch.Tensor], mixed: bool) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        return model(**inputs).loss


def _size(tensor: torch.Tensor) -> float:
    return max(tensor.detach().square().mean().sqrt().item(), LEAST_SIZE)


def _relative(name: str, rate: float) -> float:
    """Embeddings, biases and scales move twice as fast as the matrices between them."""
    return rate if name.endswith("weight") and ".layer." in name and "norm" not in name.lower() else 2 * rate


def _rate(done: float) -> float:
    cosine = (1 + torch.cos(torch.tensor(torch.pi * done)).item()) / 2
    return min(done / WARM_UP, FINAL + (1 - FINAL) * cosine) if done else 1e-3


def _batches(library: list[list[int]], seed: int, steps: int) -> Iterator[list[list[int]]]:
    """Batches of similar length in random order, epoch after epoch."""
    left, epoch = steps, 0
    while left:
        rng = Rng(seed, "order", str(epoch))
        order = rng.permutation(range(len(library)))
        chunks = [
            sorted(order[i : i + 32 * BATCH], key=lambda j: len(library[j])) for i in range(0, len(order), 32 * BATCH)
        ]
        batches = [chunk[i : i + BATCH] for chunk in chunks for i in range(0, len(chunk), BATCH)]
        for i in rng.permutation(range(len(batches)))[:left]:
            left -= 1
            yield [library[j] for j in batches[i]]
        epoch += 1
