"""What an architecture does, tried on its smallest model: facts that a module tree does not tell.

A family of this package states these facts. Of any other architecture a small random twin is built from the same class
and configuration, and run: which parameters get a gradient, which are used outside of their own module, whether
constants on a layer's output have an effect, whether text is read in one direction, and where soft prompts fit. The
twin depends on the configuration alone, so that a configuration, a model without weights and a loaded one are described
alike.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import logging as hf_logging

from apet.backbones.base_model import base_model_of
from apet.backbones.family import BackboneKind, PromptInsertion
from apet.backbones.prompt_probe import find_prompt_insertion, last_hidden_state
from apet.backbones.small_config import small_config

_BATCHES, _ROWS, _TOKENS, _FIRST_ID, _LAST_ID = 2, 3, 24, 5, 100
_CANCELED = 1e-6
"""A constant's gradient is a sum over tokens: below this share of their magnitudes it is rounding (near 1e-7), while
the slowest rotations of keys leave 5e-6."""
_SAME_GRADIENT = 1e-3


@dataclass
class Probe:
    """Facts about an architecture. Paths have ``*`` for block numbers: blocks of one kind behave alike.

    Attributes:
        kind: which stacks there are, and whether text is read in one direction.
        parameters: all that the twin has.
        unreached: parameters that get no gradient in training or evaluation.
        unreached_in_last: those that get none in the last block of their kind alone, whose output nobody reads.
        constants: parameters that their authors do not train.
        used_elsewhere: parameters that another module than their own computes with.
        uncalled: modules that are never called, whoever uses their parameters.
        widths: size of the last axis of what a module returns; modules that return no single tensor are absent.
        canceled: modules on whose output a constant has no effect, at least in some entries.
        prompt_insertion: where soft prompts enter; None where they cannot.
        prompt_obstacle: why not.
        failure: why nothing could be tried; '' = it could.
    """

    kind: BackboneKind | None = None
    parameters: set[str] = field(default_factory=set)
    unreached: set[str] = field(default_factory=set)
    unreached_in_last: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)
    used_elsewhere: set[str] = field(default_factory=set)
    uncalled: set[str] = field(default_factory=set)
    widths: dict[str, int] = field(default_factory=dict)
    canceled: set[str] = field(default_factory=set)
    prompt_insertion: PromptInsertion | None = None
    prompt_obstacle: str = ""
    failure: str = ""


def generic_path(path: str) -> str:
    """A path with ``*`` for every number: ``layers.3.mlp`` as ``layers.*.mlp``."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)", "*", path)


def is_in_last_block(model: nn.Module, path: str) -> bool:
    """Whether a path leads through the last block of the first list of blocks on its way."""
    parts = path.split(".")
    n = next((n for n, part in enumerate(parts) if part.isdigit()), None)
    if n is None:
        return False
    blocks = model.get_submodule(".".join(parts[:n]))
    return isinstance(blocks, nn.ModuleList) and len(blocks) > 1 and int(parts[n]) == len(blocks) - 1


_probes: dict[tuple[type, str], Probe] = {}


def probe(model_class: type[nn.Module], config: PreTrainedConfig) -> Probe:
    """Try an architecture on its smallest model; once for each class and configuration.

    Args:
        model_class: of transformers, or built like one of its.
        config: of the backbone; it is left as it is.

    Returns:
        The facts; with a failure's reason where the architecture cannot be built or run small.
    """
    key = model_class, json.dumps(config.to_dict(), sort_keys=True, default=str)
    if key not in _probes:
        quiet = hf_logging.get_verbosity()
        hf_logging.set_verbosity_error()
        try:
            # Whatever the caller is in the middle of; and without moving its random numbers.
            with (
                torch.random.fork_rng(devices=[]),
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.device("cpu"),
                torch.autocast("cpu", enabled=False),
            ):
                _probes[key] = _probe(model_class, config)
        except Exception as e:  # whatever a foreign forward may raise: the architecture is then described without facts
            reason = (str(e).strip().splitlines() or [""])[0][:120]
            _probes[key] = Probe(failure=f"{type(e).__name__}: {reason}")
        finally:
            hf_logging.set_verbosity(quiet)
    return _probes[key]


def _probe(model_class: type[nn.Module], config: PreTrainedConfig) -> Probe:
    torch.manual_seed(0)
    small = small_config(config)
    small._attn_implementation = "eager"
    for part in (small, small.get_text_config()):
        if getattr(part, "pad_token_id", None) is None:  # sequence classifiers of decoders ask for one
            part.pad_token_id = 0
    twin = model_class(small).float()
    facts = Probe()
    facts.parameters = {generic_path(n) for n, _ in twin.named_parameters(remove_duplicate=False)}
    facts.constants = {generic_path(n) for n, p in twin.named_parameters() if not p.requires_grad}
    with torch.no_grad():
        for p in twin.parameters():
            if p.is_floating_point():
                p.add_(torch.randn_like(p) * 0.1)
    batches = [random_inputs(twin, seed) for seed in range(_BATCHES)]
    dense = _try_gradients(twin, facts, batches)
    _find_outside_uses(twin, facts, batches, dense)
    twin.requires_grad_(False)
    base = base_model_of(twin)
    with torch.no_grad():
        try:
            facts.kind = _kind(base, batches[0])
        except Exception:  # a base model that does not take token ids by this name
            facts.prompt_obstacle = f"its {type(base).__name__} takes no token ids"
            return facts
        ids = batches[0]["input_ids"]
        facts.prompt_insertion, facts.prompt_obstacle = find_prompt_insertion(twin, base, facts.kind, ids)
    return facts


def random_inputs(twin: nn.Module, seed: int, rows: int = _ROWS, tokens: int = _TOKENS) -> dict[str, Tensor]:
    """Make a batch that any text model can run on, without padding.

    Args:
        twin: a model of transformers; its configuration says which ids there are.
        seed: of the ids.
        rows: examples.
        tokens: of each.

    Returns:
        ``input_ids``, (rows, tokens), and what else its forward cannot do without.
    """
    generator = torch.Generator().manual_seed(seed)
    config = getattr(twin, "config")
    vocabulary = int(getattr(config.get_text_config(), "vocab_size", 0) or _LAST_ID)
    ids = torch.randint(_FIRST_ID, min(_LAST_ID, vocabulary - 1), (rows, tokens), generator=generator)
    inputs = {"input_ids": ids}
    if "decoder_input_ids" in inspect.signature(twin.forward).parameters:
        inputs["decoder_input_ids"] = ids.flip(1)
        if "SequenceClassification" in type(twin).__name__:  # such a head reads the state of the last end-of-text
            ids[:, -1] = config.eos_token_id
            del inputs["decoder_input_ids"]
    return inputs


def _score(output: Any, seed: int) -> Tensor:
    """A number that depends on everything that a model computes for its users."""
    tensors = [getattr(output, name, None) for name in ("logits", "last_hidden_state", "pooler_output")]
    used = [t for t in tensors if isinstance(t, Tensor) and t.is_floating_point()]
    used = used or [t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor)][:1]
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.stack([(t * torch.randn(t.shape, generator=generator)).mean() for t in used]).sum()


def _try_gradients(twin: nn.Module, facts: Probe, batches: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Run both modes; note what is called, what gets a gradient and where constants cancel.

    Returns:
        Gradients of all parameters in evaluation mode by name, for each batch.
    """
    owners = {p: m for p, m in twin.named_modules() if next(m.parameters(recurse=False), None) is not None}
    called: set[str] = set()
    effects: dict[str, list[tuple[Tensor, Tensor]]] = {}
    twin.requires_grad_(True)
    reached: set[str] = set()
    dense: list[dict[str, Tensor]] = []
    for training in (True, False):
        twin.train(training)
        for seed, inputs in enumerate(batches):
            torch.manual_seed(seed)
            twin.zero_grad()
            with _constants_added(owners, called, facts.widths, None if training else effects):
                _score(twin(**inputs), seed).backward()
            gradients = {n: p.grad.clone() for n, p in twin.named_parameters() if p.grad is not None}
            reached |= {n for n, g in gradients.items() if bool((g != 0).any())}
            if not training:
                dense.append(gradients)
    paths = [n for n, _ in twin.named_parameters()]
    # An expert that these few tokens are not routed to gets its gradients when tokens are.
    reached |= {n for n in paths if "expert" in n}
    live = {generic_path(n) for n in reached}
    facts.unreached = {generic_path(n) for n in paths} - live
    facts.unreached_in_last = {
        generic_path(n) for n in paths if n not in reached and generic_path(n) in live and is_in_last_block(twin, n)
    }
    facts.uncalled = {generic_path(p) for p in owners} - {generic_path(p) for p in called}
    for path, sums in effects.items():
        net = torch.stack([abs(s) for s, _ in sums]).amax(0)
        gross = torch.stack([g for _, g in sums]).amax(0)
        if bool(((net <= _CANCELED * gross) & (gross > 0)).any()):
            facts.canceled.add(generic_path(path))
    return dense


@contextmanager
def _constants_added(
    owners: dict[str, nn.Module],
    called: set[str],
    widths: dict[str, int],
    effects: dict[str, list[tuple[Tensor, Tensor]]] | None,
) -> Iterator[None]:
    """Listen to all modules that own parameters.

    Args:
        owners: these modules by path.
        called: takes the paths of those that are called.
        widths: takes the last axis of what they return.
        effects: takes, for each entry of an output, the gradient summed over tokens and the sum of its magnitudes; None
            where nobody asks.
    """
    totals: dict[str, tuple[Tensor, Tensor]] = {}

    def listen(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            called.add(path)
            if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
                return
            widths[generic_path(path)] = output.shape[-1]
            if effects is None or not output.requires_grad:
                return

            def add(grad: Tensor) -> None:
                flat = grad.detach().reshape(-1, grad.shape[-1]).double()
                net, gross = totals.get(path, (torch.zeros(()), torch.zeros(())))
                totals[path] = net + flat.sum(0), gross + flat.abs().sum(0)

            output.register_hook(add)

        return hook

    handles = [m.register_forward_hook(listen(path)) for path, m in owners.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if effects is not None:
        for path, sums in totals.items():
            effects.setdefault(path, []).append(sums)


def _find_outside_uses(
    twin: nn.Module, facts: Probe, batches: list[dict[str, Tensor]], dense: list[dict[str, Tensor]]
) -> None:
    """Compare each parameter's gradient with the one that reaches it through its own modules' calls alone."""
    twin.requires_grad_(False)
    names: dict[Tensor, str] = {p: n for n, p in twin.named_parameters()}
    owners = [m for m in twin.modules() if next(m.parameters(recurse=False), None) is not None]
    for seed, inputs in enumerate(batches):
        leaves: dict[str, list[Tensor]] = {}
        handles = []
        for module in owners:
            own = {}
            for name, p in module.named_parameters(recurse=False):
                leaf = own[name] = p.detach().clone().requires_grad_()
                leaves.setdefault(names[p], []).append(leaf)

            def enter(m: nn.Module, args: Any, own: dict[str, Tensor] = own) -> None:
                m.__dict__.update(own)

            def leave(m: nn.Module, args: Any, output: Any, own: dict[str, Tensor] = own) -> None:
                for name in own:
                    m.__dict__.pop(name, None)

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
        try:
            torch.manual_seed(seed)
            score = _score(twin(**inputs), seed)
            if score.requires_grad:
                score.backward()
        finally:
            for handle in handles:
                handle.remove()
        for name, copies in leaves.items():
            inside = sum((c.grad for c in copies if c.grad is not None), torch.zeros_like(copies[0]))
            whole = dense[seed].get(name, torch.zeros_like(copies[0]))
            if float((whole - inside).norm()) > _SAME_GRADIENT * float(whole.norm()):
                facts.used_elsewhere.add(generic_path(name))


def _kind(base: nn.Module, inputs: dict[str, Tensor]) -> BackboneKind:
    """By what a model does: in a decoder, earlier places do not depend on later tokens."""
    parameters = inspect.signature(base.forward).parameters
    if "decoder_input_ids" in parameters or getattr(getattr(base, "config"), "is_encoder_decoder", False):
        return "encoder-decoder"
    base.eval()
    ids = inputs["input_ids"]
    changed = ids.clone()
    changed[:, -1] = ids[:, 0] + 1
    torch.manual_seed(0)
    before = last_hidden_state(base(input_ids=ids))
    torch.manual_seed(0)
    after = last_hidden_state(base(input_ids=changed))
    if before is None or after is None:
        return "encoder"
    difference = (before - after).abs().amax((0, 2))
    return "decoder" if float(difference[:-1].max()) <= 1e-5 * float(difference[-1]) else "encoder"
