"""What a training step costs beside the floor (frozen forward and input gradients), peft's tuners and full fine-tuning.

    python benchmarks/speed.py                       # three backbones, fp32 and bf16; at most 25 minutes on two cores
    python benchmarks/speed.py --device cuda         # bf16, larger backbones
    python benchmarks/speed.py --minutes 2 --cases BERT --ways floor,LoRA,"LoRA (peft)"
    python benchmarks/speed.py --before ../other/src # beside another version of the library
    python benchmarks/speed.py --page                # docs/results/speed.md from all records so far

Every way trains a model of its own with the same weights. They step in turn, in a drawn order, round after round, so
that whatever else the machine does falls on all alike; a ratio is the median of the rounds' own ratios. A step is
forward, backward, AdamW (fused) and clearing the gradients. Records are appended, one line of JSON a run.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from speed_before import ways_before
from speed_page import page
from speed_ways import CASES, GOALS, WAYS, Batch, Case, Prepared, make_batch, make_model
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGE, RECORDS = RESULTS / "speed.md", RESULTS / "speed.jsonl"
WARM_UP = 3
PROFILED = ("floor", "apet adjacent", "apet discrete", "W ⊙ m discrete", "LoRA")
PROFILED_STEPS = 3
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation", "mkldnn::")
"""Operations that are matrix products, by the beginning of their names."""

Record = dict[str, Any]
Steps = dict[str, Callable[[], object]]


def step_of(prepared: Prepared, batch: Batch) -> Callable[[], None]:
    """One training step of a model, as a function to time."""
    model, trained = prepared
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True) if trained else None

    def step() -> None:
        model(**batch).loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def seconds(step: Callable[[], object], device: str) -> float:
    """One timed step; a GPU's work is waited for."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """The most memory that one step holds beyond what was there before it: activations, gradients, buffers."""
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    # The allocator's own reports, in order of time: also what an operation holds while it runs is among them.
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    allocations = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = highest = 0
    for _, size in allocations:
        held += size
        highest = max(highest, held)
    return highest


def prepare(
    case: Case, dtype: torch.dtype, device: str, names: list[str], batch: Batch
) -> tuple[Steps, dict[str, int], dict[str, str]]:
    """Build every way that the case allows.

    Returns:
        Steps, counts of trained parameters, and why a way is left out; each by the way's name.
    """
    steps: Steps = {}
    trained: dict[str, int] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            prepared = WAYS[name](make_model(case, dtype, device), case)
            step = step_of(prepared, batch)
            for _ in range(WARM_UP):
                step()
        except Exception as e:  # a tuner that does not take this architecture is a finding, not a failure
            refused[name] = f"{type(e).__name__}: {str(e).splitlines()[0][:160] if str(e) else ''}"
            continue
        steps[name] = step
        trained[name] = sum(p.numel() for p in prepared[1])
    return steps, trained, refused


def rounds(steps: Steps, device: str, time_limit: float, at_most: int) -> dict[str, list[float]]:
    """Step times by way, one a round; the rounds end with the time, at the earliest after five."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    order, rng, began = list(steps), random.Random(0), time.perf_counter()
    for nth in range(at_most):
        if nth >= 5 and time.perf_counter() - began > time_limit:
            break
        rng.shuffle(order)
        for name in order:
            times[name].append(seconds(steps[name], device))
    return times


def spread(values: list[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return [float(q) for q in statistics.quantiles(values, n=4)]


def profiled(step: Callable[[], object], device: str) -> Record:
    """Top ten operations of a step by their own time, and the share of matrix products."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as profiler:
        for _ in range(PROFILED_STEPS):
            step()
    own = [
        (e.key, float(getattr(e, f"self_{'device' if device == 'cuda' else 'cpu'}_time_total")), e.count)
        for e in profiler.key_averages()
    ]
    # On a GPU, kernels stand beside the operations that launch them: each is counted once, under its operation.
    own = [item for item in own if "::" in item[0] and not item[0].startswith("void ")] if device == "cuda" else own
    total = sum(t for _, t, _ in own) or 1.0
    top = sorted(own, key=lambda item: -item[1])[:10]
    return {
        "operations": sum(count for key, _, count in own if "::" in key) // PROFILED_STEPS,
        "product_share": sum(t for key, t, _ in own if key.startswith(PRODUCTS)) / total,
        "top": [[key, t / total, count // PROFILED_STEPS] for key, t, count in top],
    }


def product_peak(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a large matrix product: the best of ten."""
    n = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(n, n, dtype=dtype, device=device) for _ in range(2))
    best = min(seconds(lambda: torch.mm(a, b), device) for _ in range(10))
    return 2 * n**3 / best


def measure(case: Case, dtype: torch.dtype, device: str, names: list[str], time_limit: float, at_most: int) -> Record:
    """Everything about one backbone in one dtype."""
    began = time.perf_counter()
    batch = make_batch(case, device)
    steps, trained, refused = prepare(case, dtype, device, names, batch)
    if not steps:
        raise SystemExit(f"{case.name}: no way could be built: {refused}")
    memory = {name: peak_bytes(step, device) for name, step in steps.items()}
    profiles = {name: profiled(steps[name], device) for name in PROFILED if name in steps}
    with FlopCounterMode(display=False) as counter:
        next(iter(steps.values()))()
    times = rounds(steps, device, time_limit - (time.perf_counter() - began), at_most)
    pairs = {
        f"{ours} / {other}": spread([a / b for a, b in zip(times[ours], times[other], strict=True)])
        for ours, other in {(a, b) for a, b, _ in GOALS} | {(a, o) for a in times for o in ("floor", f"before {a}")}
        if ours in times and other in times and ours != other
    }
    first = next(iter(steps))
    return {
        "case": case.name,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": [case.batch, case.length],
        "rounds": len(times[first]),
        "seconds": {name: spread(t) for name, t in times.items()},
        "pairs": pairs,
        "peak_bytes": memory,
        "trained": trained,
        "refused": refused,
        "profiles": profiles,
        "flops": [first, counter.get_total_flops(), product_peak(dtype, device)],
    }


def machine(device: str) -> Record:
    """Where and with what this was measured."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    if device == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), name)
    versions = {}
    for package in ("torch", "transformers", "peft"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"machine": name, "threads": torch.get_num_threads(), "device": device, "versions": versions}


def main() -> None:
    """Read the command line, measure, append a record, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--minutes", type=float, default=24.0, help="time for all backbones and dtypes together")
    parser.add_argument("--rounds", type=int, default=60, help="at most so many for each backbone and dtype")
    parser.add_argument("--cases", default="", help="only backbones whose names contain one of these, by commas")
    parser.add_argument("--dtypes", default="", help="float32, bfloat16; default: both, on a GPU bfloat16")
    parser.add_argument("--ways", default="", help="only these, by commas; default: all")
    parser.add_argument("--before", help="folder of another version's package: adds its ways as 'before …'")
    parser.add_argument("--threads", type=int, help="of the processor")
    parser.add_argument("--note", default="", help="a word on what is measured, kept in the record")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record is appended")
    parser.add_argument("--page", action="store_true", help="write the page from the records, measure nothing")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page([json.loads(x) for x in RECORDS.read_text("utf-8").splitlines()]), "utf-8")
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = [c for c in options.cases.split(",") if c]
    cases = [c for c in CASES[options.device] if not wanted or any(w in c.name for w in wanted)]
    dtypes = options.dtypes or ("bfloat16" if options.device == "cuda" else "float32,bfloat16")
    names = options.ways.split(",") if options.ways else list(WAYS)
    if options.before:
        WAYS.update(ways_before(options.before))
        names += [f"before {name}" for name in names if f"before {name}" in WAYS]
    cells = [(case, getattr(torch, dtype)) for case in cases for dtype in dtypes.split(",")]
    ends = time.perf_counter() + 60 * options.minutes
    record: Record = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "note": options.note}
    record |= {**machine(options.device), "results": []}
    try:
        for nth, (case, dtype) in enumerate(cells):
            # What a quick cell leaves over goes to those after it.
            share = (ends - time.perf_counter()) / (len(cells) - nth)
            record["results"].append(measure(case, dtype, options.device, names, share, options.rounds))
            _print_result(record["results"][-1])
            gc.collect()
            if options.device == "cuda":
                torch.cuda.empty_cache()
    finally:  # what was measured before a cell failed, or before Ctrl-C, is kept
        if record["results"]:
            options.records.parent.mkdir(parents=True, exist_ok=True)
            with options.records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _print_result(result: Record) -> None:
    print(f"{result['case']} {result['dtype']}, {result['rounds']} rounds", flush=True)
    for pair, (low, median, high) in sorted(result["pairs"].items()):
        print(f"  {pair}: {median:.3f} ({low:.3f}–{high:.3f})", flush=True)
    for name, reason in result["refused"].items():
        print(f"  {name}: {reason}", flush=True)


if __name__ == "__main__":
    main()
