"""The page that `benchmarks/speed.py` writes from its records."""

from __future__ import annotations

from typing import Any

from speed_ways import GOALS

Record = dict[str, Any]


def page(records: list[Record]) -> str:
    """Markdown: what was compared and how, then each run, the newest first."""
    lines = [
        "# Speed of a training step",
        "",
        "    make bench       # python benchmarks/speed.py, then --page",
        "",
        "Random weights, full-length texts, no dropout. *Floor*: frozen forward, and backward down to the embeddings. A"
        " step is forward, backward, fused AdamW and clearing gradients. All ways step in turn, in a drawn order, round"
        " after round; a ratio is the median of the rounds' own ratios, with the interquartile range. `apet` trains as"
        " many parameters as LoRA of rank 8 on query and value; *W ⊙ m* as many entries in every linear layer of the"
        " blocks as LoRA's pair there would have, and so do SHiRA and Super-Tuning. *Adapter (plain)*: two linear"
        " layers and a GELU in a hook, where ours sit.",
        "",
    ]
    for record in reversed(records):
        lines += _run(record)
    return "\n".join(lines).rstrip() + "\n"


def _run(record: Record) -> list[str]:
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    note = f", {record['note']}" if record["note"] else ""
    lines = [f"## {record['date'].replace('T', ' ')} on {record['device']}{note}", ""]
    lines += [f"{record['machine']}, {record['threads']} threads, {versions}.", ""]
    results = record["results"]
    heads = [f"{r['case']}, {r['dtype']}" for r in results]
    lines += ["| step | against | goal | " + " | ".join(heads) + " |", "|---|---|--:|" + "--:|" * len(heads)]
    for ours, other, goal in GOALS:
        cells = [_pair(r, f"{ours} / {other}", goal) for r in results]
        if any(cells):
            lines.append(f"| {ours} | {other} | {goal:.2f} | " + " | ".join(c or "–" for c in cells) + " |")
    lines += [_memory_row(results), ""]
    lines += ["Bold: the goal is met.", "", "### Seconds, memory and trained parameters", ""]
    for r in results:
        lines += _table(r)
    lines += ["### Where the time goes", ""]
    for r in results:
        lines += _profiles(r)
    return lines


def _pair(result: Record, pair: str, goal: float) -> str:
    if pair not in result["pairs"]:
        return ""
    low, median, high = result["pairs"][pair]
    text = f"{median:.3f}"
    return f"{f'**{text}**' if median <= goal else text} ({low:.2f}–{high:.2f})"


def _memory_row(results: list[Record]) -> str:
    """Excess of W ⊙ m over the floor against that of SHiRA."""
    cells = []
    for r in results:
        peaks = r["peak_bytes"]
        names = ("floor", "W ⊙ m discrete", "SHiRA (peft)")
        if any(name not in peaks for name in names):
            cells.append("–")
            continue
        base, ours, other = (peaks[name] for name in names)
        ratio = (ours - base) / max(1, other - base)
        cells.append(f"**{ratio:.2f}**" if ratio <= 0.25 else f"{ratio:.2f}")
    return "| excess memory, W ⊙ m discrete | SHiRA's excess | 0.25 | " + " | ".join(cells) + " |"


def _table(r: Record) -> list[str]:
    batch, length = r["batch"]
    lines = [
        f"{r['case']}, {r['dtype']}, {batch} texts of {length} tokens, {r['rounds']} rounds:",
        "",
        "| way | trained | ms, median (quartiles) | × floor | peak beyond the model, MB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, (low, median, high) in r["seconds"].items():
        pair = r["pairs"].get(f"{name} / floor")
        ratio = f"{pair[1]:.3f}" if pair else "1" if name == "floor" else "–"
        time = f"{median * 1e3:.1f} ({low * 1e3:.1f}–{high * 1e3:.1f})"
        lines.append(f"| {name} | {r['trained'][name]:,} | {time} | {ratio} | {r['peak_bytes'][name] / 1e6:.1f} |")
    lines += ["", *(f"- {name} is left out: {why}" for name, why in r["refused"].items()), ""]
    return lines


def _profiles(r: Record) -> list[str]:
    name, flops, peak = r["flops"]
    lines = []
    if name in r["seconds"]:
        share = flops / r["seconds"][name][1] / peak
        lines = [
            f"{r['case']}, {r['dtype']}: {flops / 1e9:.1f} GFLOP in a step ({name}), {share:.0%} of the"
            f" {peak / 1e12:.2f} TFLOP/s that a large matrix product reaches here.",
            "",
        ]
    for way, p in r["profiles"].items():
        top = ", ".join(f"`{op.removeprefix('aten::')}` {share:.0%} ({count})" for op, share, count in p["top"])
        lines.append(
            f"- {way}: {p['operations']:,} operations a step, matrix products {p['product_share']:.0%} of the time."
            f" Top ten by own time (calls): {top}."
        )
    return [*lines, ""]
