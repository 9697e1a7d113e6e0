"""Prompt delta: masked soft tokens beside the input embeddings; W̃₂ of *concatenate* (eq. 15; Lester et al. 2021)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from apet.backbones.base_model import base_model_of
from apet.backbones.positions import Backbone, Position
from apet.delta import DeltaSpec, Init, Insertion, Operation, TrainableWeight
from apet.errors import ApetError
from apet.layers.base import Args, DeltaLayer, Hook, Host, Kwargs, Shape, Target
from apet.masks.distributions import draw_mask

if TYPE_CHECKING:
    from transformers import Cache

DEFAULT_LENGTH = 100
"""The paper's (table 1 and appendix B.2)."""

MAX_LENGTH = 4096
"""Longest prompt that is planned where the backbone's positions set no limit; ours."""

_WIDENED = ("input_ids", "inputs_embeds", "attention_mask", "position_ids", "token_type_ids")
"""What has an entry for each token and gets one for each place of a prompt."""


def prompt_target(backbone: Backbone, length: int | None) -> Target:
    """Soft prompt tokens before the text.

    Args:
        backbone: the prompt stands at its input.
        length: in tokens; None = 100 (at most half of the backbone's learned positions), or with a budget as few as
            hold it.

    Returns:
        The target.

    Raises:
        ApetError: the backbone takes no embeddings, or the prompt leaves no room for text among its learned positions.
    """
    if backbone.prompt_insertion is None:
        raise ApetError(
            f"{backbone.model_class} cannot take soft prompts: {backbone.prompt_obstacle}; give another method"
        )
    embedding = next(x for x in backbone.layers if x.role == "embed.tokens")
    table = _position_table(backbone)
    num_positions = 2 * MAX_LENGTH if table is None else (table.size - table.num_unused) // table.shape[1]
    longest = min(num_positions // 2, MAX_LENGTH)
    default = length or min(DEFAULT_LENGTH, longest)
    if length and length >= num_positions:
        raise ApetError(
            f"prompt_length={length} leaves no room for text: the backbone has {num_positions} positions; give fewer"
        )
    d = backbone.width

    def build(count: int, distribution: str, mask_seed: int) -> Insertion:
        tokens = length or (default if count == default * d else math.ceil(count / d))
        # A token without a trained entry would be a constant that is only in the way: each gets one.
        mask = draw_mask((tokens, d), count, distribution, mask_seed, embedding.name, "prompt_embeddings", cover="rows")
        return Insertion("prompt", embedding.name, (TrainableWeight("prompt_embeddings", mask, Init("vocabulary")),))

    return Target(length or 1, (length or longest) * d, default * d, build)


def _position_table(backbone: Backbone) -> Position | None:
    """The table of learned positions, (positions, d), that limits how long text and prompt may be."""
    tables = (p for p in backbone.positions if p.role == "embed.positions" and p.parameter == "weight")
    return next((p for p in tables if len(p.shape) == 2), None)


def prompt_length(spec: DeltaSpec) -> int:
    """Count the tokens that the prompts of a delta put before a text; 0 where it has none."""
    return sum(i.weights[0].shape[0] for i in spec.insertions if i.form == PromptDelta.form)


class PromptDelta(DeltaLayer):
    """Soft prompt tokens next to the real ones: after left padding, before right-padded text (Lester et al. 2021).

    They are inserted where the family says and removed after its last block, so that callers, losses and generation
    see the length they know. An encoder-decoder's stay: its decoder attends to them. With a key-value cache they
    are inserted once and stay in the cache; masks and position ids of later steps are stretched to match.
    ``hidden_states`` and ``attentions``, where they are asked for, show the prompt's places too.
    """

    form: ClassVar[str] = "prompt"
    operation: ClassVar[Operation] = "concatenate"
    peft_name: ClassVar[str | None] = "PROMPT_TUNING"

    @classmethod
    def expected_shapes(cls, insertion: Insertion, backbone: Backbone) -> dict[str, Shape]:
        """A prompt of whatever length, each token as wide as an input embedding."""
        backbone.layer(insertion.position)
        return {"prompt_embeddings": (None, backbone.width)}

    def hooks(self, host: Host) -> Iterator[Hook]:
        """Before the module that embeds the text, and after the last block (or before a decoder that attends to it)."""
        # Paths of a family start at the base model: one file serves every head that may sit on it.
        base = base_model_of(host.model)
        insertion = host.backbone.prompt_insertion
        assert insertion is not None  # `prompt_target` refuses backbones without one
        input_module = base.get_submodule(insertion.input_module)
        self.input_parameters = list(inspect.signature(input_module.forward).parameters)
        self.real_tokens: Tensor | None = None  # (batch, n + seq), of the forward that is running
        self.inserted_at: Tensor | None = None  # first real token of each row, between insertion and removal
        self.by_row: Callable[[int, torch.dtype], Tensor] | None = None  # prompts of several deltas in one batch
        table = _position_table(host.backbone)
        self.num_positions, self.padding = None, None
        if table is not None:
            self.num_positions = (table.size - table.num_unused) // table.shape[1]
            self.padding = getattr(host.model.get_submodule(table.module), "padding_idx", None)
        yield Hook(input_module, "before", self.insert_prompt)
        for module in input_module.modules():
            if module is not input_module and _counts_real_tokens(module):
                yield Hook(module, "before", self.show_padding)
        if insertion.output_module is None:
            yield Hook(base.get_submodule(insertion.decoder), "before", self.widen_cross_attention)
        else:
            yield Hook(base.get_submodule(insertion.output_module), "after", self.remove_prompt)

    def insert_prompt(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Put the prompt into (batch, seq, d) embeddings, its mask, token types and position ids.

        Returns:
            No positional arguments; all of them by keyword, embeddings in place of token ids.

        Raises:
            ApetError: a mask in which padding cannot be seen, other arguments by token, or prompt and text that exceed
                the learned positions.
        """
        # By name, whatever way the caller passed them: the ids give way to embeddings.
        named = {**dict(zip(self.input_parameters, args, strict=False)), **kwargs}
        positions: Tensor | None = named.get("position_ids")
        if positions is None and self.padding is not None and named.get("input_ids") is not None:
            real = named["input_ids"] != self.padding  # RoBERTa counts its real tokens, which embeddings do not show
            positions = real.cumsum(1) * real + self.padding
        embeddings = named.get("inputs_embeds")
        if embeddings is None:
            embeddings = module.get_input_embeddings()(named["input_ids"])  # type: ignore[operator]
        named["input_ids"] = None
        batch, seq, _ = embeddings.shape
        for name, given in named.items():
            has_tokens = isinstance(given, Tensor) and given.dim() > 1 and tuple(given.shape[:2]) == (batch, seq)
            if has_tokens and name not in _WIDENED:
                raise ApetError(
                    f"a soft prompt cannot be inserted beside {name}, which has an entry for each token of the text;"
                    f" leave it out, or use another method on {type(module).__name__}"
                )
        n = self.insertion.weights[0].shape[0]
        caches = [named.get(name) for name in ("past_key_values", "cache_params", "state", "mems")]
        cache = next((c for c in caches if c is not None), None)
        past = _cached(cache)
        # `generate` with a static cache expands the mask itself; the model expands the wider one again.
        mask = named["attention_mask"] = _padding_mask(named.get("attention_mask"), past + seq - n * bool(past))
        if not past:
            _make_room(cache, n)
        start = _first_real(mask, batch, embeddings.device)
        # Once the prompt is in the cache, `past` counts it already.
        if self.num_positions is not None and past + n * (not past) + seq > self.num_positions:
            raise ApetError(
                f"a prompt of {n} and a text of {seq} tokens exceed the backbone's {self.num_positions} positions;"
                " shorten the text or plan a shorter prompt"
            )
        if mask is not None:
            named["attention_mask"] = _inserted(mask[..., None], mask.new_ones(batch, n, 1), start)[..., 0]
        if past:  # the prompt is in the cache already; only masks and positions must know of it
            self.inserted_at = None
            if positions is not None:
                named["position_ids"] = positions + n
        else:
            self.inserted_at = start
            prompt = self.prompts(batch, embeddings.dtype)
            embeddings = _inserted(embeddings, prompt, start)
            if positions is not None:
                named["position_ids"] = self._stretched(positions.expand(batch, seq), start, n)
            types: Tensor | None = named.get("token_type_ids")
            # The prompt belongs to the segment of the token that it precedes.
            if types is not None:
                first = types.expand(batch, seq).gather(1, start[:, None]).expand(batch, n)
                named["token_type_ids"] = _inserted(types.expand(batch, seq)[..., None], first[..., None], start)[
                    ..., 0
                ]
        named["inputs_embeds"] = embeddings
        # Only where the prompt is among them are places and mask of one length.
        wide = named.get("attention_mask")
        self.real_tokens = wide != 0 if wide is not None and not past else None
        return (), named

    def prompts(self, batch: int, dtype: torch.dtype) -> Tensor:
        """The prompt of each row, (batch, n, d)."""
        if self.by_row is not None:
            return self.by_row(batch, dtype)
        return self.dense("prompt_embeddings", dtype).expand(batch, -1, -1)

    def show_padding(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Let positions be counted over real tokens, as they are without a prompt: embeddings do not show padding.

        Returns:
            In place of the ids that the prompt took away, ids that are padding where the mask says so.
        """
        named = {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **kwargs}
        if named.get("input_ids") is None and self.real_tokens is not None:
            padding: int = getattr(module, "padding_idx")
            named["input_ids"] = torch.where(self.real_tokens, padding + 1, padding)
        return (), named

    def _stretched(self, positions: Tensor, start: Tensor, n: int) -> Tensor:
        """Position ids with the prompt's in them and those of the real tokens moved up, (batch, n + seq)."""
        first = positions.gather(1, start[:, None])
        real = torch.arange(positions.shape[1], device=start.device) >= start[:, None]
        prompt_positions = first + torch.arange(n, device=start.device)
        return _inserted((positions + n * real)[..., None], prompt_positions[..., None], start)[..., 0]

    def remove_prompt(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Any) -> Any:
        """Take the prompt's positions out of the last hidden state, (batch, n + seq, d) -> (batch, seq, d)."""
        if self.inserted_at is None:
            return output
        # Cleared at once: a later forward that inserts nothing must not lose real tokens.
        start, self.inserted_at = self.inserted_at, None
        n = self.insertion.weights[0].shape[0]
        if isinstance(output, Tensor):
            return _without(output, start, n)
        if isinstance(output, tuple):
            return (_without(output[0], start, n), *output[1:])
        output.last_hidden_state = _without(output.last_hidden_state, start, n)
        return output

    def widen_cross_attention(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Let the decoder see the prompt: stretch the encoder's mask, if the encoder's states are longer than it."""
        # By their lengths, not by a flag: in generation the encoder runs once and the decoder at every step.
        states, mask = kwargs.get("encoder_hidden_states"), kwargs.get("encoder_attention_mask")
        if states is None or mask is None or states.shape[1] <= mask.shape[1]:
            return args, kwargs
        n = self.insertion.weights[0].shape[0]
        start = _first_real(mask, len(mask), mask.device)
        wide = _inserted(mask[..., None], mask.new_ones(len(mask), n, 1), start)[..., 0]
        return args, {**kwargs, "encoder_attention_mask": wide}


def _counts_real_tokens(module: nn.Module) -> bool:
    """Whether a module makes positions out of token ids or, if there are none, out of the length of embeddings."""
    parameters = inspect.signature(module.forward).parameters
    takes_either = {"input_ids", "inputs_embeds"} <= parameters.keys() and "position_ids" not in parameters
    return takes_either and isinstance(getattr(module, "padding_idx", None), int) and not list(module.children())


def _cached(past: Cache | object | None) -> int:
    """Tokens that a cache holds; of one that keeps a state and no length, whether it holds any."""
    if past is None:
        return 0
    get_seq_length = getattr(past, "get_seq_length", None)
    if get_seq_length is None:  # a state of an architecture's own, which is handed on from the second step only
        return 1
    try:
        return int(get_seq_length())
    except ValueError:  # nothing but linear attention
        has_previous_state: Callable[[], bool] = getattr(past, "has_previous_state")
        return int(has_previous_state())


def _padding_mask(mask: Tensor | Mapping[str, Tensor] | None, length: int) -> Tensor | None:
    """The mask of shape (batch, seq) of real tokens, also out of an expanded one: what the last token may see."""
    if isinstance(mask, Mapping):  # one for each kind of layer; a sliding one would hide the beginning of a long text
        mask = mask.get("full_attention")
        if mask is None:
            return None  # what is left out where nothing is padded
    if mask is None or mask.dim() == 2:
        return mask
    if mask.dim() != 4:
        raise ApetError(f"a soft prompt needs an attention mask of shape (batch, seq); this one has {mask.dim()} axes")
    last = mask[:, 0, -1, :length]
    return (last if last.dtype == torch.bool else last == 0).long()


def _make_room(cache: Cache | object | None, n: int) -> None:
    """Let a cache of fixed length hold ``n`` more places: whoever made it counted the text alone."""
    for layer in getattr(cache, "layers", ()):
        if getattr(layer, "max_cache_len", None) and not layer.is_initialized and not layer.is_sliding:
            layer.max_cache_len += n


def _first_real(mask: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """Position of the first real token of each row, (batch,)."""
    if mask is None:
        return torch.zeros(batch, dtype=torch.long, device=device)
    return (mask != 0).long().argmax(dim=1)


def _inserted(x: Tensor, new: Tensor, start: Tensor) -> Tensor:
    """(batch, seq, d) with (batch, n, d) put in before place ``start`` of each row."""
    n, start = new.shape[1], start.to(x.device)
    # One gather over [x ; new]: rows have their text at different positions, so that slices would not do.
    offset = torch.arange(x.shape[1] + n, device=x.device)[None, :] - start[:, None]  # 0 at the first new one
    source = torch.where(
        offset < 0, offset + start[:, None], torch.where(offset < n, offset + x.shape[1], offset + start[:, None] - n)
    )
    both = torch.cat([x, new.to(x)], dim=1)
    return both.gather(1, source[..., None].expand(-1, -1, x.shape[2]))


def _without(x: Tensor, start: Tensor, n: int) -> Tensor:
    """(batch, n + seq, d) without the ``n`` places from ``start`` on."""
    position, start = torch.arange(x.shape[1] - n, device=x.device)[None, :], start.to(x.device)
    source = torch.where(position < start[:, None], position, position + n)
    return x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))
