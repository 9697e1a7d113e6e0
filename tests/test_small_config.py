"""A small configuration keeps every choice of the full one, and its model is built, run and trained at once."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    DeepseekV3Config,
    FalconH1Config,
    Gemma3nTextConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    LongformerConfig,
    Mamba2Config,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2VLConfig,
    T5Config,
)

from apet.backbones.family import ObjectiveName
from apet.backbones.small_config import small_config
from apet.errors import UnknownNameError
from apet.testing.architectures import ARCHITECTURES, architecture_batch, build_architecture

POPULAR: list[tuple[str, ObjectiveName]] = [
    ("bert", "masked-label-word"),
    ("roberta", "classification-head"),
    ("albert", "masked-label-word"),
    ("deberta-v2", "classification-head"),
    ("modernbert", "masked-label-word"),
    ("t5", "text-to-text"),
    ("bart", "text-to-text"),
    ("bart", "classification-head"),
    ("m2m_100", "text-to-text"),
    ("gpt2", "next-token"),
    ("gpt_neox", "classification-head"),
    ("llama", "next-token"),
    ("qwen3", "classification-head"),
    ("qwen3_moe", "next-token"),
    ("mixtral", "next-token"),
    ("gemma2", "next-token"),
    ("gemma3_text", "next-token"),
    ("phi3", "next-token"),
    ("cohere", "next-token"),
    ("falcon", "next-token"),
    ("olmo2", "next-token"),
    ("starcoder2", "next-token"),
    ("mamba", "next-token"),
    ("jamba", "next-token"),
    ("deepseek_v3", "next-token"),
]
TYPES = sorted({model_type for model_type, _ in POPULAR})


def choices(config: PreTrainedConfig) -> dict[str, object]:
    """Whatever is no number and no list: switches, names of activations, norms and kinds, what is left open."""
    return {
        name: value
        for name, value in vars(config).items()
        if not name.startswith("_") and (value is None or isinstance(value, (bool, str)))
    }


def model_of(config: PreTrainedConfig, objective: ObjectiveName = "next-token") -> nn.Module:
    return next(a.model_class for a in ARCHITECTURES if (a.model_type, a.objective) == (config.model_type, objective))(
        config
    ).eval()


def parameter_kinds(model: nn.Module) -> set[tuple[str, int]]:
    """Names of parameters without the numbers of their layers."""
    return {
        (".".join("*" if part.isdigit() else part for part in name.split(".")), p.dim())
        for name, p in model.named_parameters()
    }


@pytest.mark.parametrize(("model_type", "objective"), POPULAR, ids=["-".join(case) for case in POPULAR])
def test_architecture_is_small_and_trains(model_type: str, objective: ObjectiveName) -> None:
    model = build_architecture(model_type, objective)
    assert sum(p.numel() for p in model.parameters()) < 150_000
    output = model(**architecture_batch(model))
    assert torch.isfinite(output.loss)
    output.loss.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("model_type", TYPES)
def test_choices_are_kept_and_the_given_configuration_is_not_changed(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type]()
    before = copy.deepcopy(config.to_dict())
    small = small_config(config)
    assert type(small) is type(config)
    assert choices(small) == choices(config)
    assert config.to_dict() == before


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "mixtral", "mamba", "deepseek_v3", "jamba"])
def test_small_model_has_a_parameter_of_every_kind_that_the_full_model_has(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type]()
    with torch.device("meta"):
        assert parameter_kinds(model_of(small_config(config))) == parameter_kinds(model_of(config))


SETTINGS_OF_USERS: dict[str, PreTrainedConfig] = {
    "three heads of 96": LlamaConfig(
        hidden_size=288, num_attention_heads=3, num_key_value_heads=3, head_dim=96, attention_bias=True
    ),
    "smaller than small": LlamaConfig(
        vocab_size=61, hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=20
    ),
    "scaled rotary": LlamaConfig(
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "rotary factors": Phi3Config(
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0] * 48,
            "long_factor": [2.0] * 48,
            "original_max_position_embeddings": 4096,
        },
    ),
    "a quarter rotary": GPTNeoXConfig(hidden_size=2048, num_attention_heads=16, rotary_pct=0.25),
    "latent attention": DeepseekV3Config(q_lora_rank=None, qk_nope_head_dim=192, num_hidden_layers=61),
    "narrow embedding": OPTConfig(hidden_size=1024, word_embed_proj_dim=512, do_layer_norm_before=False),
    "local attention": GPTNeoConfig(num_layers=32, attention_types=[[["global", "local"], 16]], hidden_size=2560),
    "state space": Mamba2Config(hidden_size=2560, num_heads=80, head_dim=64, n_groups=1),
    "state space and attention": FalconH1Config(hidden_size=2048, mamba_d_ssm=3072, mamba_n_heads=48, mamba_d_head=64),
    "experts": MixtralConfig(num_local_experts=3, num_experts_per_tok=1, num_hidden_layers=1),
    "layers that differ": LlamaConfig(num_hidden_layers=16, per_layer_config={12: {"intermediate_size": 2048}}),
}


@pytest.mark.parametrize("case", SETTINGS_OF_USERS)
def test_configuration_of_a_user_shrinks_to_a_model_that_runs(case: str) -> None:
    config = SETTINGS_OF_USERS[case]
    small = small_config(config)
    assert choices(small) == choices(config)
    model = model_of(small)
    assert sum(p.numel() for p in model.parameters()) < 150_000
    loss = model(**architecture_batch(model)).loss
    assert torch.isfinite(loss)
    loss.backward()


def test_saved_small_configuration_reads_back(tmp_path: Path) -> None:
    for config in (GPTNeoConfig(), Gemma3nTextConfig(), MixtralConfig(), SETTINGS_OF_USERS["latent attention"]):
        small = small_config(config)
        small.save_pretrained(tmp_path)
        assert type(small).from_pretrained(tmp_path).to_dict() == small.to_dict()


def test_small_configuration_is_its_own_small_configuration() -> None:
    for model_type in TYPES:
        small = small_config(CONFIG_MAPPING[model_type]())
        assert small_config(small).to_dict() == small.to_dict()


def test_relations_between_heads_are_kept() -> None:
    def heads(num_heads: int, num_key_value_heads: int) -> tuple[int, int]:
        small = small_config(LlamaConfig(num_attention_heads=num_heads, num_key_value_heads=num_key_value_heads))
        return small.num_attention_heads, small.num_key_value_heads

    assert heads(32, 32) == (4, 4)
    assert heads(32, 8) == (4, 2)
    assert heads(32, 1) == (4, 1)


def test_depth_shows_every_kind_of_layer() -> None:
    assert small_config(LlamaConfig()).num_hidden_layers == 2
    assert small_config(LlamaConfig(num_hidden_layers=1)).num_hidden_layers == 1
    jamba = small_config(JambaConfig())  # every second layer has experts, every eighth attends, from the fifth on
    assert jamba.layers_block_type == ["mamba", "mamba", "mamba", "mamba", "attention"]


def test_kind_that_comes_late_is_shown_right_after_the_first() -> None:
    qwen = small_config(Qwen2Config(use_sliding_window=True, max_window_layers=28, num_hidden_layers=40))
    assert qwen.layer_types == ["full_attention", "sliding_attention"]
    assert qwen.max_window_layers == 1


def test_layers_that_share_keys_follow_layers_of_the_same_kind_that_do_not() -> None:
    config = Gemma3nTextConfig()
    small = small_config(config)
    own = small.layer_types[: -small.num_kv_shared_layers]
    shared = small.layer_types[-small.num_kv_shared_layers :]
    assert set(own) == set(shared) == set(config.layer_types)
    assert set(small.activation_sparsity_pattern) == set(config.activation_sparsity_pattern)


def test_lists_of_layers_are_cut_with_the_stack() -> None:
    small = small_config(LongformerConfig(num_hidden_layers=12, attention_window=[256] * 6 + [128] * 6))
    assert len(small.attention_window) == small.num_hidden_layers


def test_special_ids_move_inside_the_vocabulary_and_stay_the_same_in_every_part() -> None:
    small = small_config(Qwen2VLConfig(image_token_id=151655, video_token_id=151656))
    ids = {small.image_token_id, small.video_token_id}
    assert len(ids) == 2
    assert all(0 <= i < small.get_text_config().vocab_size for i in ids)
    ends = small_config(LlamaConfig(vocab_size=128256, bos_token_id=128000, eos_token_id=[128001, 128009]))
    assert len({ends.bos_token_id, *ends.eos_token_id}) == 3
    assert all(0 <= i < ends.vocab_size for i in (ends.bos_token_id, *ends.eos_token_id))


def test_tied_and_untied_embeddings_stay_so() -> None:
    for tied in (True, False):
        model = build_architecture("llama", "next-token", settings={"tie_word_embeddings": tied})
        tables = getattr(model, "get_output_embeddings")(), getattr(model, "get_input_embeddings")()
        assert (tables[0].weight is tables[1].weight) == tied


def test_relative_depths_of_two_stacks_are_both_small() -> None:
    small = small_config(T5Config(num_layers=3, num_decoder_layers=7))
    assert (small.num_layers, small.num_decoder_layers) == (2, 2)


def test_every_parameter_of_a_built_architecture_is_random_and_comes_from_the_seed() -> None:
    def values(seed: int) -> list[torch.Tensor]:
        return [p.detach().clone() for p in build_architecture("bert", "masked-label-word", seed=seed).parameters()]

    first, again, other = values(3), values(3), values(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(p.unique().numel() > 1 for p in first)


@pytest.mark.parametrize("left", [False, True])
def test_batch_is_padded_on_the_side_that_is_asked_for(left: bool) -> None:
    model = build_architecture("llama", "next-token")
    batch = architecture_batch(model, rows=3, seq=9, left=left)
    mask, ids = batch["attention_mask"].bool(), batch["input_ids"]
    assert mask.sum(1).tolist() == [9, 6, 9]
    assert mask[1].tolist() == ([False] * 3 + [True] * 6 if left else [True] * 6 + [False] * 3)
    assert set(ids[~mask].tolist()) == {getattr(model, "config").pad_token_id}
    assert torch.equal(batch["labels"], torch.where(mask, ids, -100))


def test_batch_of_an_encoder_decoder_shifts_its_labels_right() -> None:
    batch = architecture_batch(build_architecture("bart", "text-to-text"))
    assert torch.equal(batch["decoder_input_ids"][:, 1:], batch["labels"][:, :-1])


def test_decoder_of_an_encoder_does_not_see_what_it_foretells() -> None:
    model = build_architecture("bert", "next-token")
    batch = architecture_batch(model, rows=1)
    changed = dict(batch, input_ids=batch["input_ids"].clone())
    changed["input_ids"][0, -1] = 7
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits[0, :-1], model(**changed).logits[0, :-1], atol=1e-6)


def test_architectures_are_those_of_the_four_mappings() -> None:
    assert len(ARCHITECTURES) == len({(a.model_type, a.objective) for a in ARCHITECTURES}) >= 400
    names = {a.class_name for a in ARCHITECTURES if a.model_type == "bert"}
    assert names == {"BertLMHeadModel", "BertForMaskedLM", "BertForSequenceClassification"}


def test_unknown_architecture_is_refused_with_near_names() -> None:
    with pytest.raises(UnknownNameError, match="nearest: llama"):
        build_architecture("lama", "next-token")
