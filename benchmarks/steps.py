"""What a training step costs, beside the frozen pass and beside peft: paired, alternating rounds; prints a table.

    python benchmarks/steps.py                      # a processor, fp32, models of width 384 to 768
    python benchmarks/steps.py --device cuda        # bf16, T5-base, BERT-base and a decoder of one billion
    python benchmarks/steps.py --baseline FOLDER    # beside another version of the library, whose src is in FOLDER

Each variant gets its own copy of one random backbone. A round times a few steps of every variant in turn, in an order
that is drawn anew; ratios are of the same round, so that a machine that slows down slows both. The *floor* is what any
method has to pay: the frozen forward and the gradients of its inputs.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

if TYPE_CHECKING:
    from peft import PeftConfig

ROWS, TOKENS = 16, 64


@dataclass(frozen=True)
class Shape:
    """A backbone to time on.

    Attributes:
        build: makes it, with random weights.
        targets: the linear layers that peft's LoRA takes, as its own default does.
    """

    build: Callable[[], PreTrainedModel]
    targets: list[str]


def bert(d: int, layers: int) -> PreTrainedModel:
    """A random BERT classifier."""
    return BertForSequenceClassification(
        BertConfig(hidden_size=d, num_hidden_layers=layers, num_attention_heads=d // 64, intermediate_size=4 * d)
    )


def t5(d: int, layers: int) -> PreTrainedModel:
    """A random T5."""
    return T5ForConditionalGeneration(
        T5Config(d_model=d, d_kv=64, d_ff=4 * d, num_layers=layers, num_heads=d // 64, decoder_start_token_id=0)
    )


def llama(d: int, layers: int) -> PreTrainedModel:
    """A random decoder."""
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=d, num_hidden_layers=layers, num_attention_heads=d // 64, intermediate_size=d * 8 // 3,
            vocab_size=16000,
        )
    )  # fmt: skip


SHAPES = {
    "bert-384": Shape(lambda: bert(384, 6), ["query", "value"]),
    "t5-512": Shape(lambda: t5(512, 4), ["q", "v"]),
    "llama-512": Shape(lambda: llama(512, 6), ["q_proj", "v_proj"]),
    "bert-768": Shape(lambda: bert(768, 12), ["query", "value"]),
    "t5-768": Shape(lambda: t5(768, 12), ["q", "v"]),
    "llama-2048": Shape(lambda: llama(2048, 20), ["q_proj", "v_proj"]),
}
ON_CPU, ON_GPU = ["bert-384", "t5-512", "llama-512"], ["bert-768", "t5-768", "llama-2048"]


def inputs_of(model: PreTrainedModel, rows: int, tokens: int, device: str) -> dict[str, Tensor]:
    """A batch that the model's own loss takes."""
    ids = torch.randint(5, 16000, (rows, tokens), generator=torch.Generator().manual_seed(0)).to(device)
    if hasattr(model, "classifier"):
        return {"input_ids": ids, "labels": torch.arange(rows, device=device) % 2}
    labels = ids[:, : tokens // 4].contiguous() if model.config.is_encoder_decoder else ids
    return {"input_ids": ids, "labels": labels}


Step = Callable[[], None]


def step_of(model: PreTrainedModel, parameters: list[Tensor], inputs: dict[str, Tensor]) -> Step:
    """Forward, backward, one update of AdamW."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def floor(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Step:
    """What no method can save: the frozen forward, and the gradients of its inputs."""
    model.requires_grad_(False)

    def step() -> None:
        embeddings = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_()
        model(**{**inputs, "input_ids": None, "inputs_embeds": embeddings}).loss.backward()

    return step


def ours(
    apet: ModuleType, method: str, budget: int | None = None, **settings: object
) -> Callable[[nn.Module, dict[str, Tensor]], Step]:
    """A method of the library."""

    def make(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Step:
        handle = apet.attach(model, apet.plan(model, method, budget, **settings))
        return step_of(model, handle.parameters(), inputs)

    return make


def full(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Step:
    """Plain full fine-tuning."""
    return step_of(model, list(model.parameters()), inputs)


def by_peft(config: PeftConfig) -> Callable[[nn.Module, dict[str, Tensor]], Step]:
    """A method of peft."""

    def make(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Step:
        from peft import get_peft_model

        tuned = get_peft_model(model, config)
        return step_of(tuned, [p for p in tuned.parameters() if p.requires_grad], inputs)

    return make


def variants(
    apet: ModuleType, model: PreTrainedModel, shape: Shape
) -> dict[str, Callable[[nn.Module, dict[str, Tensor]], Step]]:
    """Everything that is timed, by the name in the table."""
    from peft import LoraConfig, PromptTuningConfig, ShiraConfig

    n = apet.plan(model, "lora").num_trainable
    linear = sorted({x.role for x in apet.describe(model).layers if x.kind == "linear" and x.index is not None})
    shira = max(1, n // sum(isinstance(m, nn.Linear) for m in model.modules()))
    kind = (
        "SEQ_CLS"
        if hasattr(model, "classifier")
        else "SEQ_2_SEQ_LM"
        if model.config.is_encoder_decoder
        else "CAUSAL_LM"
    )
    names = sorted({p.rpartition(".")[2] for p, m in model.named_modules() if isinstance(m, nn.Linear)})
    inner = [x for x in names if x not in ("classifier", "dense", "lm_head", "score")] or names
    return {
        "floor": floor,
        "full fine-tuning": full,
        "lora": ours(apet, "lora"),
        "lora (peft)": by_peft(LoraConfig(r=8, target_modules=shape.targets)),
        "bitfit": ours(apet, "bitfit"),
        "prompt": ours(apet, "prompt", prompt_length=20),
        "prompt (peft)": by_peft(PromptTuningConfig(num_virtual_tokens=20, task_type=kind)),
        "adapter": ours(apet, "adapter"),
        "apet adjacent": ours(apet, "apet", n, distribution="adjacent"),
        "apet discrete": ours(apet, "apet", n, distribution="discrete"),
        "W ⊙ m adjacent": ours(apet, "apet", n, distribution="adjacent", operations=["add"], roles=linear),
        "W ⊙ m discrete": ours(apet, "apet", n, distribution="discrete", operations=["add"], roles=linear),
        "shira (peft)": by_peft(ShiraConfig(r=max(1, shira // 768), target_modules=inner)),
    }


def seconds(step: Step, steps: int, device: str) -> float:
    """Seconds of one step, over several."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def measure(steps: dict[str, Step], rounds: int, per_round: int, device: str) -> dict[str, list[float]]:
    """Times of every variant, round by round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        seconds(step, 2, device)
    order = list(steps)
    for n in range(rounds):
        random.Random(n).shuffle(order)
        for name in order:
            times[name].append(seconds(steps[name], per_round, device))
        print(f"\r  round {n + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times


def summary(times: dict[str, list[float]]) -> list[tuple[str, float, float, float, float]]:
    """Per variant: median milliseconds, and the ratio to the floor of the same round: median and quartiles."""
    rows = []
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times["floor"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append((name, 1000 * statistics.median(own), middle, low, high))
    return rows


def main() -> None:
    """Time all shapes and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", nargs="+", help="variants, beside the floor")
    parser.add_argument("--baseline", help="folder with another version's src/apet: adds its methods as 'before …'")
    parser.add_argument("--json", help="file for the raw times")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype or ("bfloat16" if args.device == "cuda" else "float32"))
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.processor()} {platform.machine()}"
    import transformers

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{device}, {versions}, {dtype}, batch {ROWS} × {TOKENS}")
    raw = {}
    for name in args.shapes or (ON_GPU if args.device == "cuda" else ON_CPU):
        shape = SHAPES[name]
        torch.manual_seed(0)
        model = shape.build().to(args.device, dtype)
        inputs = inputs_of(model, ROWS, TOKENS, args.device)
        makers = variants(importlib.import_module("apet"), model, shape)
        if args.only:
            makers = {k: v for k, v in makers.items() if k in (*args.only, "floor")}
        steps = {}
        for variant, make in makers.items():
            try:
                steps[variant] = make(copy.deepcopy(model), inputs)
                steps[variant]()
            except Exception as e:  # what another library cannot do is left out, and said
                steps.pop(variant, None)
                print(f"  {variant}: {type(e).__name__}: {str(e).splitlines()[0][:100]}")
        if args.baseline:
            steps |= _baseline_steps(args.baseline, model, shape, inputs, args.only)
        raw[name] = measure(steps, args.rounds, 5 if args.device == "cuda" else 2, args.device)
        print(f"\n{name}, {sum(p.numel() for p in model.parameters()):,} parameters")
        print("| variant | ms a step | × floor | quartiles |\n|---|---|---|---|")
        for variant, ms, ratio, low, high in summary(raw[name]):
            print(f"| {variant} | {ms:.1f} | {ratio:.3f} | {low:.3f} – {high:.3f} |")
        del steps, model
        gc.collect()
    if args.json:
        with open(args.json, "w") as f:
            json.dump(raw, f)


def _baseline_steps(
    folder: str, model: PreTrainedModel, shape: Shape, inputs: dict[str, Tensor], only: list[str] | None
) -> dict[str, Step]:
    """Steps of another version of the library, imported under the same name beside this one."""
    ours_loaded = {k: v for k, v in sys.modules.items() if k == "apet" or k.startswith("apet.")}
    for name in ours_loaded:
        del sys.modules[name]
    sys.path.insert(0, folder)
    try:
        makers = variants(importlib.import_module("apet"), model, shape)
        mine = {k: v for k, v in makers.items() if k not in ("floor", "full fine-tuning") and "(peft)" not in k}
        return {f"before {k}": v(copy.deepcopy(model), inputs) for k, v in mine.items() if not only or k in only}
    finally:
        sys.path.remove(folder)
        for name in [k for k in sys.modules if k == "apet" or k.startswith("apet.")]:
            del sys.modules[name]
        sys.modules.update(ours_loaded)


if __name__ == "__main__":
    main()
