"""What the settings leave open, decided by the backbone, the task and the hardware."""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

from apet.backbones.describe import Backbone
from apet.backbones.family import Kind, ObjectiveName, family_of
from apet.backbones.loading import default_objective
from apet.errors import ApetError
from apet.tasks.from_file import task_from_file
from apet.tasks.task import Task, load_task
from apet.training.config import RunConfig


def resolve_task(s: RunConfig) -> Task:
    """The task that the settings name, or the one that data, text and label make.

    Raises:
        ApetError: neither; both; or data that does not fit.
    """
    if s.task is not None:
        if s.text or s.label:
            raise ApetError(
                "text and label describe a data file, a task has its own; give task, or data, text and label"
            )
        return load_task(s.task)
    if s.data is None:
        raise ApetError("what is to be learnt? Give a task (apet tasks lists them), or data, text and label")
    if not s.text or s.label is None:
        raise ApetError(f"data={s.data!r} needs text (the column to read) and label (the column with the class)")
    return task_from_file(s.data, s.text, s.label)


_OBJECTIVES: dict[Kind, tuple[ObjectiveName, ...]] = {
    "encoder": ("classification-head", "masked-label-word"),
    "encoder-decoder": ("text-to-text",),
    "decoder": ("next-token",),
}


def resolve_objective(s: RunConfig, config: PreTrainedConfig) -> ObjectiveName:
    """The objective: as asked, or by what the backbone was pre-trained to do."""
    if s.objective != "auto":
        family = family_of(config.model_type)
        fits = _OBJECTIVES[family.kind] if family else (s.objective,)
        if s.objective not in fits:
            raise ApetError(
                f"objective={s.objective} does not fit {s.backbone!r}, a {family.kind if family else ''} backbone;"
                f" give {' or '.join(fits)}"
            )
        return s.objective
    heads = getattr(config, "architectures", None) or ()
    return default_objective(config, label_words=any("MaskedLM" in h or h == "BertForPreTraining" for h in heads))


def resolve_dtype(s: RunConfig, device: torch.device) -> torch.dtype:
    """float32 or bfloat16; auto takes bfloat16 where the hardware computes with it."""
    if s.dtype != "auto":
        return torch.float32 if s.dtype == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type == "cpu" and native else torch.float32


def text_length_limit(backbone: Backbone, wanted: int, taken: int) -> int:
    """Tokens of an input: as many as wanted, or what the backbone's learned positions leave beside ``taken`` ones.

    Raises:
        ApetError: hardly any are left.
    """
    layer = next((x for x in backbone.layers if x.role == "embed.positions"), None)
    if layer is None:
        return wanted
    weight = layer.position("weight")
    unused = weight.unused[1] // layer.d_out if weight else 0
    room = layer.d_in - unused - taken
    if room < 8:
        raise ApetError(
            f"{backbone.model_class} has {layer.d_in} positions, {taken} are taken; {room} are left for text"
        )
    return min(wanted, room)
