"""What training a few entries costs in memory: gradients, optimizer state and the peak of a backward pass.

A random BERT of 4 layers, d 1024, is trained for two steps of AdamW, each way in a process of its own:

  * ``apet``    1 % of its entries, scattered over all weights, biases and scales (W ⊙ m);
  * ``masked``  the same entries the way one would write it by hand: dense gradients, multiplied with the mask;
  * ``full``    full fine-tuning in plain PyTorch.

    python benchmarks/memory.py            # a table in Markdown
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

BATCH, SEQ, SHARE = 4, 64, 0.01
WAYS = ("frozen", "apet", "masked", "full")


def resident() -> int:
    """Bytes of this process in physical memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Peak:
    """The highest resident memory while the block runs, sampled every half millisecond."""

    def __enter__(self) -> Peak:
        self.highest, self.running = resident(), True
        self.watch = threading.Thread(target=self._look)
        self.watch.start()
        return self

    def _look(self) -> None:
        while self.running:
            self.highest = max(self.highest, resident())
            time.sleep(0.0005)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.watch.join()


def measure(way: str) -> dict[str, float]:
    """Two steps of training in one way; sizes in bytes."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    import apet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=1024, num_hidden_layers=4, num_attention_heads=16, intermediate_size=4096, vocab_size=8000
    )
    model = BertForSequenceClassification(config).eval()
    spec = apet.plan(
        model, "apet", f"{100 * SHARE}%", distribution="discrete", operations=["add"], allocation="proportional"
    )
    inputs = {"input_ids": torch.randint(3, 8000, (BATCH, SEQ)), "labels": torch.arange(BATCH) % 2}
    masks = []
    if way == "apet":
        trained = apet.attach(model, spec).parameters()
    elif way == "masked":
        where = {p.name: f"{p.module}.{p.parameter}" for p in apet.positions(model) if p.parameter != "output"}
        model.requires_grad_(False)
        for i in spec.insertions:
            if i.form == "weight":
                weight = model.get_parameter(where[i.position]).requires_grad_()
                mask = torch.zeros(weight.numel(), dtype=torch.bool)
                mask[torch.from_numpy(i.weights[0].mask.indices)] = True
                masks.append((weight, mask.view_as(weight)))
        trained = [weight for weight, _ in masks]
    elif way == "full":
        trained = list(model.parameters())
    else:
        model.requires_grad_(False)
        model.bert.embeddings.word_embeddings.register_forward_hook(lambda m, a, out: out.requires_grad_())
        trained = []
    optimizer = torch.optim.AdamW(trained, lr=1e-4) if trained else None

    model(**{k: v[:1, :8] if v.dim() == 2 else v[:1] for k, v in inputs.items()}).loss.backward()  # load the kernels
    model.zero_grad(set_to_none=True)
    before = resident()
    with Peak() as peak:
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            model(**inputs).loss.backward()
            for weight, mask in masks:
                weight.grad.mul_(mask)
            if optimizer:
                optimizer.step()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    states = [t for s in (optimizer.state.values() if optimizer else ()) for t in s.values() if torch.is_tensor(t)]
    return {
        "trained": spec.num_trainable if way in ("apet", "masked") else sum(p.numel() for p in trained),
        "gradients": sum(g.numel() * g.element_size() for g in gradients),
        "optimizer": sum(t.numel() * t.element_size() for t in states),
        "peak": peak.highest - before,
    }


def measured_apart(way: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--way", way], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print one way's numbers, or the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, help="measure one way in this process and print JSON")
    way = parser.parse_args().way
    if way:
        print(json.dumps(measure(way)))
        return
    print("| way | trained | gradients, MB | optimizer, MB | peak beyond the model, MB |\n|---|--:|--:|--:|--:|")
    for way in WAYS:
        r = measured_apart(way)
        sizes = " | ".join(f"{r[k] / 1e6:.1f}" for k in ("gradients", "optimizer", "peak"))
        print(f"| {way} | {r['trained']:,} | {sizes} |")


if __name__ == "__main__":
    main()
