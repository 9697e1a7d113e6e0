"""Which methods are right on which architectures: every text model type of transformers, tiny and random.

    python benchmarks/architectures.py                      # all, about an hour on one core; writes the page
    python benchmarks/architectures.py mixtral mamba        # some types, printed only
    python benchmarks/architectures.py --part 1/4           # a quarter, into a file of its own
    python benchmarks/architectures.py --page               # the page again, from what the parts have written

Each pair of a model type and one of its classes is tried in a process of its own with a time limit: some architectures
hang or take the process with them. What is tried is `apet.testing.architecture_checks`; peft's LoRA on all linear
layers stands beside it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers

import apet
from apet.testing.architecture_checks import check_generation, check_method
from apet.testing.architectures import ARCHITECTURES, Architecture, architecture_batch, build_architecture

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGE = RESULTS / "architectures.md"
RECORDS = RESULTS / "architectures.jsonl"
METHODS = ("lora", "fine-tuning", "apet-adjacent", "apet-discrete", "bitfit", "adapter", "prompt", "ia3", "ln-tuning")
COUNTED = ("lora", "apet-adjacent", "apet-discrete", "fine-tuning")
GENERATING = ("lora", "apet-discrete", "prompt")
SEQUENCE = 32
"""Tokens of a text: some architectures have parts that only longer ones reach."""
TIME_LIMIT = 240
"""Seconds for one pair."""

Record = dict[str, Any]


def tried(architecture: Architecture) -> Record:
    """Build one architecture and try every method on it."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    record: Record = {"model_type": architecture.model_type, "objective": architecture.objective}
    record["class"] = architecture.class_name
    try:
        model = build_architecture(architecture.model_type, architecture.objective)
    except Exception as e:  # transformers itself does not build it from its own configuration
        return {**record, "not_built": _first_line(e)}
    try:
        backbone = apet.describe(model)
        with torch.device("meta"):
            on_meta = type(model)(getattr(model, "config"))
        record |= {
            "kind": backbone.kind,
            "num_positions": sum(p.parameter != "output" for p in backbone.positions),
            "num_other": sum(p.role == "other" for p in backbone.positions if p.parameter != "output"),
            "num_substituted": sum(p.carrier == "substituted" for p in backbone.positions if p.parameter != "output"),
            "unreached": list(backbone.unreached),
            "unprobed": backbone.unprobed,
            "same_from_meta": apet.describe(on_meta) == backbone,
        }
    except Exception as e:
        return {**record, "not_described": _first_line(e)}
    inputs = architecture_batch(model, seq=SEQUENCE)
    try:
        loss = model(**inputs).loss
        loss.backward()
        model.zero_grad(set_to_none=True)
    except Exception as e:  # it needs more than text
        return {**record, "not_run": _first_line(e)}
    record["methods"] = {}
    for method in METHODS:
        verdict = check_method(model, inputs, method)
        record["methods"][method] = [verdict.status, verdict.reason]
    if architecture.objective in ("next-token", "text-to-text"):
        left = architecture_batch(model, left=True)
        record["generation"] = {}
        for method in GENERATING:
            verdict = check_generation(model, left, method)
            record["generation"][method] = [verdict.status, verdict.reason]
    record["peft_lora"] = _peft_lora(model, inputs)
    return record


def _peft_lora(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[str]:
    """Whether peft's LoRA on all linear layers attaches, starts as the identity and gives each pair a gradient."""
    from peft import LoraConfig, get_peft_model

    try:
        with torch.no_grad():
            before = model(**inputs).logits
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).eval()
        with torch.no_grad():
            if not torch.allclose(wrapped(**inputs).logits, before, atol=1e-5):
                return ["wrong", "outputs differ at the start"]
        wrapped(**inputs).loss.backward()
        without = [n for n, p in wrapped.named_parameters() if "lora_B" in n and (p.grad is None or not p.grad.any())]
        without = [n for n in without if "expert" not in n]
        return ["wrong", f"{without[0]} has no gradient"] if without else ["right", ""]
    except Exception as e:
        return ["refused", _first_line(e)]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:140]}"


def walk(architectures: list[Architecture], output: Path | None) -> list[Record]:
    """Try each in a process of its own; what is in the output already is not tried again."""
    done = {} if output is None or not output.exists() else {_key(r): r for r in _read(output)}
    context = multiprocessing.get_context("fork")
    # What is imported at first use is imported once, before the processes part.
    tried(next(a for a in ARCHITECTURES if a.model_type == "llama"))
    records = []
    for n, architecture in enumerate(architectures, 1):
        key = (architecture.model_type, architecture.objective)
        if key not in done:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_send, args=(architecture, sender))
            started = time.monotonic()
            process.start()
            sender.close()
            try:
                record = receiver.recv() if receiver.poll(TIME_LIMIT) else {"crashed": f"over {TIME_LIMIT} s"}
            except EOFError:
                record = {"crashed": "the process died"}
            process.kill()
            process.join()
            done[key] = {"model_type": key[0], "objective": key[1], "class": architecture.class_name, **record}
            done[key]["seconds"] = round(time.monotonic() - started, 1)
            if output is not None:
                with output.open("a", encoding="utf-8") as f:
                    f.write(json.dumps(done[key]) + "\n")
        records.append(done[key])
        print(f"{n}/{len(architectures)} {_line(done[key])}", flush=True)
    return records


def _send(architecture: Architecture, sender: Any) -> None:
    sender.send(tried(architecture))


def _key(record: Record) -> tuple[str, str]:
    return record["model_type"], record["objective"]


def _read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _line(record: Record) -> str:
    faults = [f"{m}: {reason}" for m, (status, reason) in _verdicts(record).items() if status == "wrong"]
    why = next((f"{k}: {record[k]}" for k in ("not_built", "not_described", "not_run", "crashed") if k in record), "")
    right = sum(status == "right" for status, _ in record.get("methods", {}).values())
    return f"{record['class']} ({record['seconds']} s) {why or f'{right} of {len(METHODS)} right'} {'; '.join(faults)}"


def _verdicts(record: Record) -> dict[str, list[str]]:
    return record.get("methods", {}) | {f"generation {m}": v for m, v in record.get("generation", {}).items()}


def page(records: list[Record]) -> str:
    """The page: counts, then a row for each pair."""
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "peft", "torch")}
    built = [r for r in records if "not_built" not in r]
    ran = [r for r in built if "methods" in r]
    types = {r["model_type"] for r in built}
    described = {r["model_type"] for r in built if "num_positions" in r}
    lines = [
        "# Architectures",
        "",
        f"Every model type of transformers {versions['transformers']} that reads text (causal, sequence-to-sequence and"
        f" masked language models, sequence classifiers), tiny and random, with torch {versions['torch']} and peft"
        f" {versions['peft']}. Made by `python benchmarks/architectures.py`.",
        "",
        "*right*: exactly N parameters require gradients; untrained outputs are bit-equal where the method says so; the"
        " gradient of every entry of a parameter equals dense autograd's within 1e-3, and what the model computes rises"
        " along the gradient as steeply as it is long; detached, every bit is the backbone's; saved and loaded, outputs"
        " are equal. *generation*: the same logits with and without a cache, and padded on the left or alone, where the"
        " model agrees with itself without a delta. *peft LoRA*: on all linear layers it attaches, starts as the"
        " identity, and every pair has a gradient.",
        "",
        f"- {len(types)} model types can be built, {len(described)} are described;"
        f" {len(built)} of {len(records)} pairs of type and class are built, {len(ran)} run on text alone.",
        f"- Described alike from the meta device: {sum(r.get('same_from_meta', False) for r in built)} of"
        f" {sum('same_from_meta' in r for r in built)}.",
        "",
        "| | " + " | ".join([*METHODS, *(f"generation {m}" for m in GENERATING), "peft LoRA"]) + " |",
        "|---" * (len(METHODS) + len(GENERATING) + 2) + "|",
    ]
    for status in ("right", "refused", "wrong"):
        counts = [sum(r["methods"][m][0] == status for r in ran) for m in METHODS]
        counts += [sum(r.get("generation", {}).get(m, [""])[0] == status for r in ran) for m in GENERATING]
        counts += [sum(r["peft_lora"][0] == status for r in ran)]
        lines.append(f"| {status} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", "Model types right on every class of theirs that runs:", ""]
    by_type = _by_type(ran)
    lines += [
        f"- {method}: {sum(all(r['methods'][method][0] == 'right' for r in rs) for rs in by_type.values())} of"
        f" {len(by_type)}"
        for method in COUNTED
    ]
    lines += [f"- peft's LoRA: {sum(all(r['peft_lora'][0] == 'right' for r in rs) for rs in by_type.values())}", ""]
    lines += _faults(records)
    lines += ["## Every pair", "", "| model type | class | kind | positions | other | dense gradient | "]
    lines[-1] += " | ".join(METHODS) + " | generation | peft LoRA |"
    lines.append("|---" * (len(METHODS) + 8) + "|")
    lines += [_row(r) for r in ran]
    return "\n".join(lines) + "\n"


def _by_type(ran: list[Record]) -> dict[str, list[Record]]:
    by_type: dict[str, list[Record]] = {}
    for r in ran:
        by_type.setdefault(r["model_type"], []).append(r)
    return by_type


WHY = {
    "BailingHybridForCausalLM": "its linear attention keeps padding out of its state by zeros alone, and a trained"
    " constant on a key or value makes them something else",
    "DogeForCausalLM": "its attention keeps the k tokens of the highest scores, and soft tokens are among them:"
    " with other padding the choice falls otherwise",
    "GlmMoeDsaForCausalLM": "its indexer chooses tokens by scores that are nearly equal in a random model, and rounds"
    " them differently with a cache; any change of weights may tip the choice",
}
"""Class -> what in the architecture makes its generation depend on padding or cache once anything is trained."""


def _faults(records: list[Record]) -> list[str]:
    """What is wrong, what is refused and why, and what could not be tried."""
    lines = ["## Wrong", ""]
    wrong = [
        f"- `{r['class']}` {name}: {reason}{why}"
        for r in records
        for name, (status, reason) in _verdicts(r).items()
        if status == "wrong"
        for why in [f"; {WHY[r['class']]}" if r["class"] in WHY and name.startswith("generation") else ""]
    ]
    lines += [*(wrong or ["Nothing."]), "", "## Refused", ""]
    reasons = Counter(
        (name, reason.replace(r["class"], "the model").split(". Give roles")[0].split(", whose layers")[0])
        for r in records
        for name, (status, reason) in r.get("methods", {}).items()
        if status == "refused"
    )
    lines += [f"- {name}, {n} times: {reason}" for (name, reason), n in reasons.most_common()]
    lines += ["", "## Not tried", ""]
    keys = {"not_built": "is not built", "not_described": "is not described", "not_run": "does not run on text alone"}
    keys["crashed"] = "did not end"
    lines += [f"- `{r['class']}` {text}: {r[k]}" for r in records for k, text in keys.items() if k in r]
    return [*lines, ""]


def _row(r: Record) -> str:
    marks = {"right": "✓", "refused": "–", "wrong": "✗"}
    generation = "".join(marks[status] for status, _ in r.get("generation", {}).values())
    cells = [r["model_type"], f"`{r['class']}`", r["kind"], r["num_positions"], r["num_other"], r["num_substituted"]]
    cells += [marks[r["methods"][m][0]] for m in METHODS]
    return "| " + " | ".join(map(str, [*cells, generation, marks[r["peft_lora"][0]]])) + " |"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="model types; without any, all")
    parser.add_argument("--part", default="", help="such as 1/4")
    parser.add_argument("--page", action="store_true", help="write the page from the records that are there")
    options = parser.parse_args()
    chosen = [a for a in ARCHITECTURES if not options.types or a.model_type in options.types]
    if options.types:
        walk(chosen, None)
        return
    parts = sorted(RESULTS.glob("architectures-part-*.jsonl"))
    if options.part:
        nth, total = map(int, options.part.split("/"))
        walk(chosen[nth - 1 :: total], RESULTS / f"architectures-part-{nth}.jsonl")
        return
    if not options.page:
        parts = [RESULTS / "architectures-part-0.jsonl"]
        walk(chosen, parts[0])
    order: dict[tuple[str, str], int] = {(a.model_type, a.objective): n for n, a in enumerate(ARCHITECTURES)}
    records = sorted((r for part in parts for r in _read(part)), key=lambda r: order[_key(r)])
    if records:
        RECORDS.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
        for part in parts:
            part.unlink()
    PAGE.write_text(page(records or _read(RECORDS)), "utf-8")


if __name__ == "__main__":
    main()
