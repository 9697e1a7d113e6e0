"""Concatenate: ``f([h_in ; W̃₂])`` (eq. 15, soft prompts) and ``f(h_in) + α h_in W̃₃ W̃₄`` (eq. 16, low-rank pairs)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.describe import Backbone
from apet.errors import ApetError, NotMergeableError
from apet.layers.base import DeltaLayer, Hook, MergedDelta, first_input
from apet.layers.weight import fixed_delta
from apet.masks.mask import dense_mask


class LoraDelta(DeltaLayer):
    """A low-rank pair beside a linear layer (Hu et al. 2021, section 4.1)."""

    def hooks(self, model: nn.Module, backbone: Backbone) -> Iterator[Hook]:
        """After the layer."""
        yield Hook(model.get_submodule(backbone.layer(self.insertion.position).module), "after", self.after)

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """``f(h_in) + s · h_in W̃₃ W̃₄``, (…, d_out)."""
        x = first_input(args, kwargs).to(output.device)
        return output + (x @ self.dense("lora_A", x.dtype)) @ self.dense("lora_B", x.dtype) * self.insertion.scale

    def merged_delta(self, model: nn.Module, backbone: Backbone) -> MergedDelta:
        """As ``s · W̃₃ W̃₄`` added to the layer's weight."""
        layer = backbone.layer(self.insertion.position)
        position = layer.position("weight")
        if position is None or position.tied:
            raise NotMergeableError(
                f"pair at {self.insertion.position!r} cannot be merged: its weight is tied to another layer,"
                " which would change too"
            )
        with torch.no_grad():
            delta = self.dense("lora_A", torch.float32) @ self.dense("lora_B", torch.float32) * self.insertion.scale
        if not isinstance(model.get_submodule(layer.module), Conv1D):
            delta = delta.t()
        return MergedDelta(position.name, fixed_delta(dense_mask(tuple(delta.shape)), delta.reshape(-1)))


class PromptDelta(DeltaLayer):
    """Soft prompt tokens next to the real ones: after left padding, before right-padded text (Lester et al. 2021).

    They enter where the family says and leave again after its last block, so that callers, losses and generation
    see the length they know. An encoder–decoder's stay: its decoder attends to them. With a key-value cache they
    enter once and stay in the cache; masks and position ids of later steps are stretched to match.
    ``hidden_states`` and ``attentions``, where they are asked for, show the prompt's places too.
    """

    def hooks(self, model: nn.Module, backbone: Backbone) -> Iterator[Hook]:
        """At the door of the prompted stack and behind it."""
        base: nn.Module = getattr(model, "base_model", model)
        family = backbone.family
        enter = base.get_submodule(family.prompt_input_module)
        self.parameters_of_enter = list(inspect.signature(enter.forward).parameters)
        self.entered_at: Tensor | None = None
        table = next((x for x in backbone.layers if x.role == "embed.positions"), None)
        self.places, self.padding = None, None
        if table is not None:
            weight = table.positions[0]
            self.places = (weight.size - weight.num_unused) // table.d_out
            self.padding = getattr(model.get_submodule(table.module), "padding_idx", None)
        yield Hook(enter, "before", self.insert_prompt)
        if family.prompt_output_module is None:
            yield Hook(base.get_submodule("decoder"), "before", self.widen_cross_attention)
        else:
            yield Hook(base.get_submodule(family.prompt_output_module), "after", self.remove_prompt)

    def insert_prompt(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]]:
        """Put the prompt into (batch, seq, d) embeddings, its mask, token types and position ids."""
        named = {**dict(zip(self.parameters_of_enter, args, strict=False)), **kwargs}
        positions: Tensor | None = named.get("position_ids")
        if positions is None and self.padding is not None and named.get("input_ids") is not None:
            real = named["input_ids"] != self.padding  # RoBERTa counts its real tokens, which embeddings do not show
            positions = real.cumsum(1) * real + self.padding
        tokens = named.get("inputs_embeds")
        if tokens is None:
            tokens = module.get_input_embeddings()(named["input_ids"])  # type: ignore[operator]
        named["input_ids"] = None
        batch, seq, _ = tokens.shape
        mask: Tensor | None = named.get("attention_mask")
        if isinstance(mask, dict) or (mask is not None and mask.dim() != 2):
            raise ApetError("a soft prompt needs an attention mask of shape (batch, seq); this one is already expanded")
        past = _cached(named.get("past_key_values"))
        at = _first_real(mask, batch, tokens.device)
        n = self.insertion.weights[0].shape[0]
        if self.places is not None and past + n * (not past) + seq > self.places:
            raise ApetError(
                f"a prompt of {n} and a text of {seq} tokens exceed the backbone's {self.places} positions;"
                " shorten the text or plan a shorter prompt"
            )
        if mask is not None:
            named["attention_mask"] = _inserted(mask[..., None], mask.new_ones(batch, n, 1), at)[..., 0]
        if past:
            self.entered_at = None
            if positions is not None:
                named["position_ids"] = positions + n
        else:
            self.entered_at = at
            prompt = self.dense("prompt_embeddings", tokens.dtype).expand(batch, -1, -1)
            tokens = _inserted(tokens, prompt, at)
            if positions is not None:
                named["position_ids"] = self._stretched(positions.expand(batch, seq), at, n)
            types: Tensor | None = named.get("token_type_ids")
            if types is not None:
                first = types.expand(batch, seq).gather(1, at[:, None]).expand(batch, n)
                named["token_type_ids"] = _inserted(types.expand(batch, seq)[..., None], first[..., None], at)[..., 0]
        named["inputs_embeds"] = tokens
        return (), named

    def _stretched(self, positions: Tensor, at: Tensor, n: int) -> Tensor:
        """Position ids with the prompt's own in place and those of the real tokens moved up, (batch, n + seq)."""
        start = positions.gather(1, at[:, None])
        real = torch.arange(positions.shape[1], device=at.device) >= at[:, None]
        own = start + torch.arange(n, device=at.device)
        return _inserted((positions + n * real)[..., None], own[..., None], at)[..., 0]

    def remove_prompt(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Take the prompt's places out of the last hidden state, (batch, n + seq, d) -> (batch, seq, d)."""
        if self.entered_at is None:
            return output
        at, self.entered_at = self.entered_at, None
        n = self.insertion.weights[0].shape[0]
        if isinstance(output, Tensor):
            return _without(output, at, n)
        if isinstance(output, tuple):
            return (_without(output[0], at, n), *output[1:])
        output.last_hidden_state = _without(output.last_hidden_state, at, n)
        return output

    def widen_cross_attention(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Let the decoder see the prompt: stretch the encoder's mask, if the encoder's states are longer than it."""
        states, mask = kwargs.get("encoder_hidden_states"), kwargs.get("encoder_attention_mask")
        if states is None or mask is None or states.shape[1] <= mask.shape[1]:
            return args, kwargs
        n = self.insertion.weights[0].shape[0]
        at = _first_real(mask, len(mask), mask.device)
        wide = _inserted(mask[..., None], mask.new_ones(len(mask), n, 1), at)[..., 0]
        return args, {**kwargs, "encoder_attention_mask": wide}


def _cached(past: Any) -> int:
    """Tokens that a key-value cache holds."""
    return 0 if past is None else int(past.get_seq_length())


def _first_real(mask: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """Place of the first real token of each row, (batch,)."""
    if mask is None:
        return torch.zeros(batch, dtype=torch.long, device=device)
    return (mask != 0).long().argmax(dim=1)


def _inserted(x: Tensor, new: Tensor, at: Tensor) -> Tensor:
    """(batch, seq, d) with (batch, n, d) put in before place ``at`` of each row."""
    n, at = new.shape[1], at.to(x.device)
    place = torch.arange(x.shape[1] + n, device=x.device)[None, :] - at[:, None]  # 0 at the first new one
    source = torch.where(
        place < 0, place + at[:, None], torch.where(place < n, place + x.shape[1], place + at[:, None] - n)
    )
    both = torch.cat([x, new.to(x)], dim=1)
    return both.gather(1, source[..., None].expand(-1, -1, x.shape[2]))


def _without(x: Tensor, at: Tensor, n: int) -> Tensor:
    """(batch, n + seq, d) without the ``n`` places from ``at`` on."""
    place, at = torch.arange(x.shape[1] - n, device=x.device)[None, :], at.to(x.device)
    source = torch.where(place < at[:, None], place, place + n)
    return x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))


__all__ = ["LoraDelta", "PromptDelta"]
