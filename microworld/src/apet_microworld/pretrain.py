"""Pre-training of a scale from its seed: leaves an ordinary transformers folder with an account of how it went."""

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
from apet_microworld.documents import corpus
from apet_microworld.expansion import expand
from apet_microworld.fingerprint import text_fingerprint
from apet_microworld.objectives import MaskingCollator
from apet_microworld.rng import Rng
from apet_microworld.scales import WEIGHTS, Scale, get_scale, mimetic_init
from apet_microworld.tokenizer import build_tokenizer, vocabulary, words

DOCUMENTS, HELD_OUT, BATCH = 60_000, 512, 32
MEASURE_EVERY = 500
WARM_UP, FINAL_RATE, MAX_GRAD_NORM, MIN_RMS = 0.04, 0.05, 1.0, 0.01
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
    documents are other texts about the same world. A scale that is expanded from a smaller one begins as its function
    (``expansion.py``) and reads documents that it has not read.

    Args:
        name: a scale, such as ``microworld-t5-small``.
        folder: must not exist or be empty; gets config.json, model.safetensors (bf16), the tokenizer and
            pretraining.json.
        seed: decides initial weights, corpus, order and masking.
        max_steps: optimizer steps of 32 documents; None = as the scale says.
        documents: size of the corpus.
        init_from: folder of the scale that this one is expanded from; None = the weights that ship with the package.
        report: called at every measurement of the held-out loss: the first step, every 500th and the last.

    Returns:
        What pretraining.json holds: settings, corpus hash, measured seconds and the curve of held-out losses (nats
        per hidden word).

    Raises:
        UnknownNameError: no such scale.
        ApetError: the folder is not empty, fewer than one step or one batch was asked for, or the weights of the
            scale that this one is expanded from are not there.
    """
    scale = get_scale(name)
    steps = scale.max_steps if max_steps is None else max_steps
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ApetError(f"folder {str(folder)!r} is not empty; give one that is new")
    if steps < 1 or documents < BATCH:
        raise ApetError(f"max_steps={steps}, documents={documents}: give at least 1 step and {BATCH} documents")
    smaller = _smaller_model(name, init_from)
    corpus_seed = seed + 2 * _generation(name)  # seed + 1 draws the held-out documents
    texts = corpus(corpus_seed, documents)
    library, held_out = _word_ids(texts), _word_ids(corpus(seed + 1, HELD_OUT))
    model = mimetic_init(name, seed)
    optimizer = _make_optimizer(model, scale)
    if smaller is not None:
        # Only now: the rates are taken from the sizes that weights of this scale begin with, not from expanded ones.
        expand(model, smaller, seed)
    start = time.perf_counter()
    curve = []
    for step, loss in _train(model, optimizer, scale, library, held_out, corpus_seed, steps):
        curve.append((step, round(loss, 4)))
        if report:
            report(step, curve[-1][1], time.perf_counter() - start)
    account = {
        "scale": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": seed,
        "init_from": scale.init_from,
        "steps": steps,
        "batch": BATCH,
        "relative_rate": scale.relative_rate,
        "autocast": "bfloat16" if _is_mixed(scale) else None,
        "corpus": {
            "seed": corpus_seed,
            "documents": documents,
            "words": sum(map(len, library)),
            "sha256": text_fingerprint(texts),
        },
        "seconds": round(time.perf_counter() - start, 1),
        "threads": torch.get_num_threads(),
        "held_out_loss": curve,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    model.bfloat16().save_pretrained(folder)
    build_tokenizer(scale.family).save_pretrained(folder)
    (folder / "pretraining.json").write_text(json.dumps(account, indent=1) + "\n")
    return account


def _word_ids(texts: list[str]) -> list[list[int]]:
    ids = {word: i for i, word in enumerate(vocabulary())}
    return [[ids[word] for word in words(text)] for text in texts]


def _is_mixed(scale: Scale) -> bool:
    """Whether a scale is trained under bfloat16 autocast."""
    return scale.d_model >= _AUTOCAST_FROM


def _make_optimizer(model: nn.Module, scale: Scale) -> torch.optim.Optimizer:
    """AdamW with a peak rate for each tensor, relative to the size of its initial values."""
    groups = [
        {"params": [p], "lr": _relative_rate(name, scale.relative_rate) * _rms(p)}
        for name, p in model.named_parameters()
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)


def _train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scale: Scale,
    library: list[list[int]],
    held_out: list[list[int]],
    corpus_seed: int,
    steps: int,
) -> Iterator[tuple[int, float]]:
    """Train step by step; yields the held-out loss (nats) at the first step, every 500th and the last.

    Args:
        model: trained in place.
        optimizer: of its parameters, at their peak rates.
        scale: decides how documents are masked, and the precision.
        library: word ids of the training documents.
        held_out: word ids of the held-out documents.
        corpus_seed: decides order and masking.
        steps: to train for.

    Yields:
        Step and held-out loss.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step / steps))
    collator, mixed = MaskingCollator(), _is_mixed(scale)
    for step, docs in enumerate(_batches(library, corpus_seed, steps), 1):
        # A stream for each step: what is masked does not depend on how many steps came before.
        inputs = collator.collate(scale.family, docs, Rng(corpus_seed, "hide", str(step)))
        loss = _loss(model, inputs, mixed)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step in (1, steps) or step % MEASURE_EVERY == 0:
            yield step, held_out_loss(model, collator, scale.family, held_out, mixed)


def _generation(name: str) -> int:
    """0 for a scale with an initialization of its own, 1 for one that is expanded from it, and so on."""
    parent = get_scale(name).init_from
    return 0 if parent is None else 1 + _generation(parent)


def _smaller_model(name: str, folder: Path | None) -> T5ForConditionalGeneration | None:
    """The model that a scale is expanded from; None for a scale with an initialization of its own.

    Args:
        name: of the scale.
        folder: of the smaller scale; None = the weights that ship with the package.

    Returns:
        The smaller model, in float32.

    Raises:
        ApetError: a folder for a scale that needs none, or one that does not hold the right scale.
    """
    parent = get_scale(name).init_from
    if parent is None:
        if folder is not None:
            raise ApetError(f"{name} is not expanded from a smaller scale; leave out the folder {str(folder)!r}")
        return None
    folder = folder or WEIGHTS / parent
    if not (folder / "config.json").is_file():
        raise ApetError(
            f"{name} is expanded from {parent}, and {str(folder)!r} has no config.json; pre-train that first"
        )
    expected, width = get_scale(parent).d_model, T5Config.from_pretrained(folder, local_files_only=True).d_model
    if width != expected:
        raise ApetError(
            f"{name} is expanded from {parent} (d_model {expected}), but {str(folder)!r} has d_model {width}"
        )
    return T5ForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def held_out_loss(
    model: nn.Module, collator: MaskingCollator, family: str, docs: list[list[int]], mixed: bool = False, size: int = 64
) -> float:
    """Mean loss over masked words, nats; what is masked is the same at every call.

    Args:
        model: of the family.
        collator: makes the batches.
        family: ``t5`` or ``bert``.
        docs: word ids of each held-out document.
        mixed: compute in bfloat16 where autocast does.
        size: documents a batch.

    Returns:
        The mean over all masked words.
    """
    total, count = 0.0, 0
    docs = sorted(docs, key=len)
    with torch.no_grad():
        for i in range(0, len(docs), size):
            inputs = collator.collate(family, docs[i : i + size], Rng(0, "held out", str(i)))
            n = int((inputs["labels"] >= 0).sum())
            total, count = total + float(_loss(model, inputs, mixed)) * n, count + n
    return total / count


def _loss(model: nn.Module, inputs: dict[str, torch.Tensor], mixed: bool) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        return model(**inputs).loss


def _rms(tensor: torch.Tensor) -> float:
    return max(tensor.detach().square().mean().sqrt().item(), MIN_RMS)


def _relative_rate(name: str, rate: float) -> float:
    """Embeddings, biases and scales move twice as fast as the matrices between them."""
    return rate if name.endswith("weight") and ".layer." in name and "norm" not in name.lower() else 2 * rate


def _schedule(progress: float) -> float:
    cosine = (1 + torch.cos(torch.tensor(torch.pi * progress)).item()) / 2
    return min(progress / WARM_UP, FINAL_RATE + (1 - FINAL_RATE) * cosine) if progress else 1e-3


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
