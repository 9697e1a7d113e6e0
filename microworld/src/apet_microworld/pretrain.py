"""Pre-training of a scale from its seed: leaves an ordinary transformers folder with an account of how it went."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from apet.errors import ApetError
from apet_microworld.documents import corpus
from apet_microworld.fingerprint import text_fingerprint
from apet_microworld.objectives import MaskingCollator
from apet_microworld.rng import Rng
from apet_microworld.scales import Scale, get_scale, mimetic_init
from apet_microworld.tokenizer import build_tokenizer, vocabulary, words

DOCUMENTS, HELD_OUT, BATCH, MAX_STEPS = 100_000, 512, 32, 4000
MEASURE_EVERY = 500
_STATE, _SETTINGS = "state.pt", "settings.json"
WARM_UP, FINAL_RATE, MAX_GRAD_NORM, MIN_RMS = 0.04, 0.05, 1.0, 0.01

Report = Callable[[int, float, float], None]
"""Step, held-out loss, seconds so far."""


def pretrain(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    documents: int | None = None,
    state: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Pre-train a scale by span corruption (T5), masked words (BERT) or next words (Llama) and save it.

    AdamW (0.9, 0.98). A tensor's peak rate is relative to the root mean square of its initial values (at least 0.01;
    `relative_rates`), as Adafactor scales its steps: T5's embeddings begin a hundred times larger than its queries, and
    one rate for both left every scale on a plateau. The rate rises linearly over
    the first 4 % of the steps and falls along a cosine to 5 %; batches of 32 documents of similar length. The held-out
    documents are other texts about the same world. Every scale reads the same documents in the same order.

    A pre-training that was cut goes on where it stood with the same call, and ends with the same bytes.

    Args:
        name: a scale, such as ``microworld-t5-small``.
        folder: must not exist or be empty; gets config.json, model.safetensors (bf16), the tokenizer and
            pretraining.json.
        seed: decides initial weights, corpus, order and masking.
        max_steps: optimizer steps of 32 documents; None = 4,000, times what the scale reads of the others' documents.
        documents: size of the corpus; None = 100,000, times the same.
        state: folder for what is needed to go on after a cut, gone at the end; None = ``<folder>.partial``.
        report: called at every measurement of the held-out loss: the first step, every 500th and the last.

    Returns:
        What pretraining.json holds: settings, corpus hash, measured seconds and the curve of held-out losses (nats
        per hidden word).

    Raises:
        UnknownNameError: no such scale.
        ApetError: the folder is not empty, fewer than one step or one batch was asked for, or what lies in ``state``
            was begun with other settings.
    """
    scale = get_scale(name)
    steps = round(scale.reads * MAX_STEPS) if max_steps is None else max_steps
    documents = round(scale.reads * DOCUMENTS) if documents is None else documents
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ApetError(f"folder {str(folder)!r} is not empty; give one that is new")
    if steps < 1 or documents < BATCH:
        raise ApetError(f"max_steps={steps}, documents={documents}: give at least 1 step and {BATCH} documents")
    texts = corpus(seed, documents)
    settings = {
        "scale": name,
        "seed": seed,
        "steps": steps,
        "batch": BATCH,
        "relative_rates": relative_rates(scale),
        "corpus": {"documents": documents, "sha256": text_fingerprint(texts)},
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    model = mimetic_init(name, seed)
    training = Training(model, scale, _word_ids(texts), _word_ids(corpus(seed + 1, HELD_OUT)), seed, steps)
    state = state or folder.with_name(f"{folder.name}.partial")
    training.resume(state, settings)
    for step, loss, seconds in training.run(state, settings):
        if report:
            report(step, loss, seconds)
    account = settings | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "words": sum(map(len, training.library)),
        "seconds": round(training.seconds, 1),
        "held_out_loss": training.curve,
    }
    model.bfloat16().save_pretrained(folder)
    build_tokenizer(scale.family).save_pretrained(folder)
    (folder / "pretraining.json").write_text(json.dumps(account, indent=1) + "\n")
    shutil.rmtree(state, ignore_errors=True)
    return account


class Training:
    """A pre-training that can be left and taken up again.

    Args:
        model: trained in place.
        scale: decides how documents are masked.
        library: word ids of the training documents.
        held_out: word ids of the held-out documents.
        seed: decides order and masking.
        steps: to train for.
    """

    def __init__(
        self, model: nn.Module, scale: Scale, library: list[list[int]], held_out: list[list[int]], seed: int, steps: int
    ) -> None:
        self.model, self.scale, self.library, self.held_out = model, scale, library, held_out
        self.seed, self.steps, self.step, self.seconds = seed, steps, 0, 0.0
        self.curve: list[tuple[int, float]] = []
        """Step and held-out loss in nats."""
        self._optimizer = _make_optimizer(model, scale)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: _schedule(step / steps))

    def run(self, folder: Path, settings: dict[str, Any]) -> Iterator[tuple[int, float, float]]:
        """Train from the step that was reached to the last.

        Args:
            folder: where the state is kept at every measurement.
            settings: kept beside it.

        Yields:
            Step, held-out loss (nats) and seconds so far, at the first step, every 500th and the last.
        """
        collator, start = MaskingCollator(), time.perf_counter() - self.seconds
        for step, docs in enumerate(_batches(self.library, self.seed, self.steps), 1):
            if step <= self.step:
                continue
            # A stream for each step: what is masked does not depend on how many steps came before.
            inputs = collator.collate(self.scale.family, docs, Rng(self.seed, "hide", str(step)))
            self.model(**inputs).loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
            if step in (1, self.steps) or step % MEASURE_EVERY == 0:
                held_out = held_out_loss(self.model, collator, self.scale.family, self.held_out)
                self.step, self.seconds = step, time.perf_counter() - start
                self.curve.append((step, round(held_out, 4)))
                self._keep(folder, settings)
                yield step, self.curve[-1][1], self.seconds

    def resume(self, folder: Path, settings: dict[str, Any]) -> None:
        """Take up the state of a folder, if one is there.

        Args:
            folder: where `run` kept it.
            settings: must be those that it was begun with.

        Raises:
            ApetError: it was begun with others.
        """
        if not (folder / _STATE).is_file():
            return
        begun = json.loads((folder / _SETTINGS).read_text("utf-8"))
        if begun != json.loads(json.dumps(settings)):
            raise ApetError(f"{str(folder)!r} holds a pre-training with other settings; delete it or give them again")
        state = torch.load(folder / _STATE, weights_only=True)
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.step, self.seconds, self.curve = state["step"], state["seconds"], [tuple(p) for p in state["curve"]]

    def _keep(self, folder: Path, settings: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SETTINGS).write_text(json.dumps(settings) + "\n", "utf-8")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }
        torch.save(state, folder / f"{_STATE}.part")
        (folder / f"{_STATE}.part").replace(folder / _STATE)


def _word_ids(texts: list[str]) -> list[list[int]]:
    ids = {word: i for i, word in enumerate(vocabulary())}
    return [[ids[word] for word in words(text)] for text in texts]


def _make_optimizer(model: nn.Module, scale: Scale) -> torch.optim.Optimizer:
    """AdamW with a peak rate for each tensor, relative to the size of its initial values."""
    groups = [
        {"params": [p], "lr": relative_rates(scale)[_part_of(name)] * _rms(p)} for name, p in model.named_parameters()
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


def held_out_loss(
    model: nn.Module, collator: MaskingCollator, family: str, docs: list[list[int]], size: int = 16
) -> float:
    """Mean loss over masked words, nats; what is masked is the same at every call.

    Args:
        model: of the family.
        collator: makes the batches.
        family: ``t5``, ``bert`` or ``llama``.
        docs: word ids of each held-out document.
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
            total, count = total + float(model(**inputs).loss) * n, count + n
    return total / count


def _rms(tensor: torch.Tensor) -> float:
    return max(tensor.detach().square().mean().sqrt().item(), MIN_RMS)


def relative_rates(scale: Scale) -> dict[str, float]:
    """Peak rates by part of a model, relative to the size of a tensor's initial values.

    Matrices move less the wider they are, by the root of the width, and embeddings as fast at every width, after Yang
    et al. 2022, "Tensor programs V" (for Adam, with rates relative to initial values).

    Args:
        scale: its width decides.

    Returns:
        Rate of embeddings, matrices and vectors.
    """
    matrices = min(0.03, 0.25 / scale.d_model**0.5)
    rates = {"embeddings": 0.05, "matrices": matrices, "vectors": 2 * matrices}
    return {part: scale.rates * rate for part, rate in rates.items()}


def _part_of(name: str) -> str:
    if "norm" in name.lower() or name.endswith("bias"):
        return "vectors"
    looked_up = ("shared", "embed", "relative_attention_bias")
    return "embeddings" if any(part in name for part in looked_up) else "matrices"


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
