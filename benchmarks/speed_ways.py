"""The models and the ways of training them that `benchmarks/speed.py` times: ours, peft's, and the floor below both."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

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

import apet
from apet.backbones.positions import Backbone
from apet.delta import Insertion, TrainableWeight
from apet.masks.distributions import draw_mask

RANK = 8
PROMPT = 20
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A backbone of random weights, and the batch it is trained on.

    Attributes:
        name: of the family and its width.
        build: makes the model.
        batch: texts a step.
        length: tokens of a text.
        task_type: peft's word for what the model does.
    """

    name: str
    build: Callable[[], PreTrainedModel]
    batch: int
    length: int
    task_type: str


def _bert(width: int, layers: int) -> Callable[[], PreTrainedModel]:
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return lambda: BertForSequenceClassification(config)


def _t5(width: int, ff: int, layers: int) -> Callable[[], PreTrainedModel]:
    config = T5Config(
        d_model=width,
        d_ff=ff,
        num_layers=layers,
        num_heads=width // 64,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    return lambda: T5ForConditionalGeneration(config)


def _llama(width: int, ff: int, layers: int, kv_heads: int) -> Callable[[], PreTrainedModel]:
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=ff,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=kv_heads,
        vocab_size=32000,
        use_cache=False,
    )
    return lambda: LlamaForCausalLM(config)


CASES = {
    "cpu": (
        Case("BERT d384", _bert(384, 6), 16, 64, "SEQ_CLS"),
        Case("T5 d512", _t5(512, 1024, 4), 8, 64, "SEQ_2_SEQ_LM"),
        Case("Llama d768", _llama(768, 2048, 4, 12), 8, 64, "CAUSAL_LM"),
    ),
    "cuda": (
        Case("BERT-base", _bert(768, 12), 32, 128, "SEQ_CLS"),
        Case("T5-base", _t5(768, 2048, 12), 32, 128, "SEQ_2_SEQ_LM"),
        Case("Llama 1B", _llama(2048, 8192, 16, 8), 16, 256, "CAUSAL_LM"),
    ),
}
"""By device: what two cores, and what a GPU, train in well under a second a step."""


def make_model(case: Case, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The case's model, the same weights at every call, ready to train."""
    torch.manual_seed(0)
    with torch.device(device):
        model = case.build()
    return model.to(device=device, dtype=dtype).train()


def make_batch(case: Case, device: str) -> Batch:
    """Texts of full length and their labels."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 30000, (case.batch, case.length), generator=generator)
    labels = torch.arange(case.batch) % 2 if case.task_type == "SEQ_CLS" else ids[:, : max(8, case.length // 4)].clone()
    if case.task_type == "CAUSAL_LM":
        labels = ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}


Prepared = tuple[nn.Module, list[Tensor]]
"""What is called, and the tensors that an optimizer gets."""
Way = Callable[[PreTrainedModel, Case], Prepared]


def floor(model: PreTrainedModel, case: Case) -> Prepared:
    """Frozen forward, and backward down to the embeddings: what every way here has to pay."""
    model.requires_grad_(False)
    # Encoder and decoder look words up, each in a module of its own where transformers ties them: all begin a graph.
    words = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is words:
            module.register_forward_hook(lambda module, args, output: output.requires_grad_())
    return model, []


def full(model: PreTrainedModel, case: Case) -> Prepared:
    """Full fine-tuning in plain PyTorch."""
    return model, list(model.parameters())


def apet_method(name: str, carrier: str = "auto", **settings: object) -> Way:
    """A registered method at its default size."""

    def prepare(model: PreTrainedModel, case: Case) -> Prepared:
        handle = apet.attach(model, apet.plan(model, name, **settings), carrier=carrier)  # type: ignore[arg-type]
        return model, handle.parameters()

    return prepare


def block_linears(backbone: Backbone) -> list[str]:
    """Names of the linear layers in the blocks: what peft calls all-linear."""
    return [x.name for x in backbone.layers if x.kind == "linear" and x.role.startswith(("attn.", "cross_", "mlp."))]


def all_linears(distribution: str, carrier: str = "auto") -> Way:
    """W ⊙ m on all linear layers of the blocks, as many entries in each as LoRA's pair there would have."""

    def prepare(model: PreTrainedModel, case: Case) -> Prepared:
        backbone = apet.describe(model)
        insertions = []
        for name in block_linears(backbone):
            position = backbone.position(f"{name}.weight")
            mask = draw_mask(position.shape, RANK * sum(position.shape), distribution, 0, position.name)
            insertions.append(Insertion("weight", position.name, (TrainableWeight("delta", mask),)))
        spec = apet.DeltaSpec(
            tuple(insertions), backbone.model_class, backbone.num_parameters, name=f"all-linear-{distribution}"
        )
        handle = apet.attach(model, spec, carrier=carrier)  # type: ignore[arg-type]
        return model, handle.parameters()

    return prepare


def bitfit_on_linears(model: PreTrainedModel, case: Case) -> Prepared:
    """The biases that BEFT trains here."""
    roles = sorted({x.role for x in apet.describe(model).layers if x.name in block_linears(apet.describe(model))})
    return apet_method("bitfit", roles=roles)(model, case)


def _modules(model: PreTrainedModel, names: list[str]) -> list[str]:
    backbone = apet.describe(model)
    return [backbone.layer(name).module for name in names]


def _with_peft(model: PreTrainedModel, kind: str, **settings: object) -> Prepared:
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, getattr(peft, kind)(**settings))
    return wrapped, [p for p in wrapped.parameters() if p.requires_grad]


def peft_lora(model: PreTrainedModel, case: Case) -> Prepared:
    """LoRA of peft on query and value."""
    names = [x.name for x in apet.describe(model).layers if x.role in ("attn.q", "attn.v")]
    return _with_peft(model, "LoraConfig", r=RANK, lora_alpha=16, target_modules=_modules(model, names))


def peft_shira(model: PreTrainedModel, case: Case) -> Prepared:
    """SHiRA of peft on all linear layers of the blocks: the same number of entries in each."""
    targets = _modules(model, block_linears(apet.describe(model)))
    return _with_peft(model, "ShiraConfig", r=RANK, target_modules=targets, random_seed=0)


def peft_super_tuning(model: PreTrainedModel, case: Case) -> Prepared:
    """Super-Tuning of peft on all linear layers of the blocks: as many entries over all."""
    backbone = apet.describe(model)
    shapes = [backbone.position(f"{name}.weight").shape for name in block_linears(backbone)]
    entries, size = sum(RANK * (a + b) for a, b in shapes), sum(a * b for a, b in shapes)
    targets = _modules(model, block_linears(backbone))
    return _with_peft(model, "SupertuningConfig", sparsity=1 - entries / size, target_modules=targets)


def peft_beft(model: PreTrainedModel, case: Case) -> Prepared:
    """BEFT of peft on all linear layers of the blocks that have a bias."""
    return _with_peft(model, "BeftConfig", target_modules=_modules(model, block_linears(apet.describe(model))))


def peft_prompt(model: PreTrainedModel, case: Case) -> Prepared:
    """Prompt tuning of peft."""
    once = {"num_transformer_submodules": 1} if case.task_type == "SEQ_2_SEQ_LM" else {}
    return _with_peft(model, "PromptTuningConfig", task_type=case.task_type, num_virtual_tokens=PROMPT, **once)


def plain_adapter(model: PreTrainedModel, case: Case) -> Prepared:
    """Bottlenecks as one writes them by hand: two dense linear layers and a GELU after each layer that ours sit at."""
    backbone = apet.describe(model)
    spec = apet.plan(backbone, "adapter")
    model.requires_grad_(False)
    trained: list[Tensor] = []
    for insertion in spec.insertions:
        layer = backbone.layer(insertion.position)
        module = model.get_submodule(layer.module)
        own = next(module.parameters())
        bottleneck = nn.Sequential(nn.Linear(layer.d_out, 24), nn.GELU(), nn.Linear(24, layer.d_out)).to(own)
        module.register_forward_hook(lambda module, args, output, inner=bottleneck: output + inner(output))
        trained += bottleneck.parameters()
    return model, trained


WAYS: dict[str, Way] = {
    "floor": floor,
    "apet adjacent": apet_method("apet", distribution="adjacent"),
    "apet discrete": apet_method("apet", distribution="discrete"),
    "W ⊙ m adjacent": all_linears("adjacent"),
    "W ⊙ m discrete": all_linears("discrete"),
    "SHiRA (peft)": peft_shira,
    "Super-Tuning (peft)": peft_super_tuning,
    "LoRA": apet_method("lora"),
    "LoRA (peft)": peft_lora,
    "BitFit": bitfit_on_linears,
    "BEFT (peft)": peft_beft,
    "prompt": apet_method("prompt", prompt_length=PROMPT),
    "prompt (peft)": peft_prompt,
    "adapter": apet_method("adapter"),
    "adapter (plain)": plain_adapter,
    "W ⊙ m substituted": all_linears("discrete", "substituted"),
    "full fine-tuning": full,
}

PAIRED = tuple(name for name in WAYS if "(" not in name and name not in ("floor", "full fine-tuning"))
"""Ways of this library, which another version of it has, too."""

GOALS: tuple[tuple[str, str, float], ...] = (
    ("apet adjacent", "floor", 1.15),
    ("apet discrete", "floor", 1.20),
    ("W ⊙ m adjacent", "floor", 1.05),
    ("W ⊙ m discrete", "floor", 1.12),
    ("W ⊙ m discrete", "SHiRA (peft)", 0.78),
    ("W ⊙ m discrete", "Super-Tuning (peft)", 0.70),
    ("LoRA", "LoRA (peft)", 0.95),
    ("BitFit", "BEFT (peft)", 0.95),
    ("prompt", "prompt (peft)", 0.95),
    ("adapter", "adapter (plain)", 0.95),
    ("W ⊙ m substituted", "full fine-tuning", 1.0),
)
"""What is compared with what, and the ratio of step times that is wanted at most."""
