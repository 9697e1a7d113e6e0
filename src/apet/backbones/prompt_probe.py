"""Where soft prompts fit into an architecture, tried on a small model of it."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from apet.backbones.family import BackboneKind, PromptInsertion


def last_hidden_state(output: Any) -> Tensor | None:
    """The last hidden state, (batch, seq, d), of what a base model returns."""
    state = getattr(output, "last_hidden_state", None)
    if state is None:
        state = getattr(output, "logits", None)
    if state is None and isinstance(output, tuple):
        state = output[0]
    return state if isinstance(state, Tensor) and state.dim() == 3 else None


def find_prompt_insertion(
    model: nn.Module, base: nn.Module, kind: BackboneKind, ids: Tensor
) -> tuple[PromptInsertion | None, str]:
    """Where embeddings can be given in place of token ids, tried with the embeddings of the ids themselves.

    Args:
        model: small.
        base: its base model.
        kind: which stacks it has.
        ids: (batch, seq).

    Returns:
        Where soft prompts enter and leave, or None, and then why they cannot.
    """
    base.eval()
    module, insertion = base, PromptInsertion()
    if kind == "encoder-decoder":
        encoder, decoder = _stack(base, "encoder"), _stack(base, "decoder")
        if encoder is None or decoder is None:
            return None, "its encoder and decoder are not found"
        names = {m: n for n, m in base.named_modules()}
        insertion = PromptInsertion(names[encoder], None, names[decoder])
        module = encoder
    elif not _takes_embeddings(base):  # a wrapper around the module that does
        inner = next((n for n, child in base.named_children() if _takes_embeddings(child)), "")
        module, insertion = getattr(base, inner) if inner else base, PromptInsertion(inner, inner)
    if not _takes_embeddings(module):
        return None, f"its {type(module).__name__} takes no input embeddings"
    try:
        embeddings = module.get_input_embeddings()(ids)  # type: ignore[operator]
        torch.manual_seed(0)
        by_ids = last_hidden_state(module(input_ids=ids))
        torch.manual_seed(0)
        by_embeddings = last_hidden_state(module(inputs_embeds=embeddings))
        # Vectors that are no token's, since some models look up which one an embedding belongs to; beside padding.
        wide = torch.cat([embeddings[:, :3] * 1.5, embeddings], 1)
        mask = torch.ones(wide.shape[:2], dtype=torch.long)
        mask[0, :2] = 0
        longer = last_hidden_state(module(inputs_embeds=wide, attention_mask=mask))
    except Exception as e:  # a foreign forward may refuse embeddings with any error
        return None, f"its {type(module).__name__} does not run on input embeddings ({type(e).__name__})"
    if by_ids is None or by_embeddings is None or longer is None or longer.shape[1] != ids.shape[1] + 3:
        return None, f"its {type(module).__name__} returns no hidden state for each token"
    if not torch.allclose(by_ids, by_embeddings, rtol=1e-4, atol=1e-5):
        return None, f"its {type(module).__name__} computes something else from input embeddings than from token ids"
    if kind == "encoder" and module is base:
        insertion = PromptInsertion("", _last_sequence_module(base, ids, by_ids.shape))
    if kind == "encoder-decoder":
        return insertion, ""
    for tried in (insertion, PromptInsertion(insertion.input_module, insertion.input_module)):
        if _works(model, base, tried, ids):
            return tried, ""
    return None, f"{type(model).__name__} does not run where a prompt's places are put in and taken out"


def _takes_embeddings(module: nn.Module) -> bool:
    return "inputs_embeds" in inspect.signature(module.forward).parameters


def _works(model: nn.Module, base: nn.Module, insertion: PromptInsertion, ids: Tensor) -> bool:
    """Whether a whole model runs where places are put in and taken out: some read more than the last hidden state."""
    module = base.get_submodule(insertion.input_module)
    names = list(inspect.signature(module.forward).parameters)

    def enter(m: nn.Module, args: Any, kwargs: Any) -> Any:
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        embeddings = m.get_input_embeddings()(named.pop("input_ids"))  # type: ignore[operator]
        named["inputs_embeds"] = torch.cat([embeddings[:, :3] * 1.5, embeddings], 1)
        named["attention_mask"] = torch.ones(named["inputs_embeds"].shape[:2], dtype=torch.long)
        return (), named

    def leave(m: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output[:, 3:]
        if isinstance(output, tuple):
            return (output[0][:, 3:], *output[1:])
        output.last_hidden_state = output.last_hidden_state[:, 3:]
        return output

    handles = [module.register_forward_pre_hook(enter, with_kwargs=True)]
    if insertion.output_module is not None:
        handles.append(base.get_submodule(insertion.output_module).register_forward_hook(leave))
    try:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception:  # whatever a foreign forward raises where lengths differ
        return False
    finally:
        for handle in handles:
            handle.remove()
    return True


def _stack(base: nn.Module, name: str) -> nn.Module | None:
    found = getattr(base, f"get_{name}", None)
    stack = found() if callable(found) else getattr(base, name, None)
    return stack if isinstance(stack, nn.Module) and stack is not base else None


def _last_sequence_module(base: nn.Module, ids: Tensor, shape: torch.Size) -> str:
    """The last child of an encoder that returns a hidden state for each token.

    A pooler after it reads the first one, and must not take the prompt's for it.

    Returns:
        The child's name; '' where the encoder has no pooler.
    """
    last = [""]
    handles = []
    for name, child in base.named_children():

        def listen(m: nn.Module, args: Any, output: Any, name: str = name) -> None:
            state = output if isinstance(output, Tensor) else last_hidden_state(output)
            if state is not None and state.shape == shape:
                last[0] = name

        handles.append(child.register_forward_hook(listen))
    try:
        output = base(input_ids=ids)
    finally:
        for handle in handles:
            handle.remove()
    return last[0] if isinstance(getattr(output, "pooler_output", None), Tensor) else ""
