"""Small backbones with tokenizers, built in code and saved as ordinary folders; and small data files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

LINES = [
    "a fine film , warm and clever from the first scene to the last",
    "a dull film , cold and slow from the first scene to the last",
    "Sentiment: negative positive neutral yes no maybe",
    "Premise: the man is outside Hypothesis: a person is outside Answer: yes",
    "First: what is this Second: what was that Same meaning: no",
    "Question: who wrote it Answer: nobody Dialogue: hi there Summary: they talk Articles:",
] * 4

SPECIAL = ["<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "<extra_id_0>"]
KINDS = ("t5", "bert-head", "bert-mlm", "gpt2", "llama")


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE over a few lines: every text can be read, common words are one token."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind in ("t5", "bert-head", "bert-mlm"))
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet))
    ids = {s: t.token_to_id(s) for s in SPECIAL}
    if kind == "t5":
        t.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", ids["</s>"])])
    elif kind.startswith("bert"):
        marks = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
        t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", marks)
    elif kind == "llama":
        t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", ids["<s>"])])
    names = (
        ["input_ids", "token_type_ids", "attention_mask"]
        if kind.startswith("bert")
        else ["input_ids", "attention_mask"]
    )
    words = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    if kind.startswith("bert"):
        words |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    if kind == "llama":
        words |= {"bos_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=t, model_input_names=names, **words)


def model(kind: str, vocab: int) -> PreTrainedModel:
    """Two layers, d 32, random."""
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    bert = {"vocab_size": vocab, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert |= {"intermediate_size": 48, "max_position_embeddings": 300, "pad_token_id": 0}
    if kind == "t5":
        t5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
        return T5ForConditionalGeneration(T5Config(vocab_size=vocab, **t5, pad_token_id=0, eos_token_id=1))
    if kind == "bert-head":
        return BertModel(BertConfig(**bert))
    if kind == "bert-mlm":
        return BertForMaskedLM(BertConfig(**bert))
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=2, n_positions=300, **ids))
    llama = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, num_key_value_heads=1, **llama, **ids))


def save_backbone(kind: str, folder: Path) -> Path:
    """An ordinary transformers folder."""
    t = tokenizer(kind)
    model(kind, len(t)).save_pretrained(folder)
    t.save_pretrained(folder)
    return folder


GOOD = ["fine", "warm", "clever"]
BAD = ["dull", "cold", "slow"]


def reviews(n: int, offset: int = 0) -> list[dict[str, str]]:
    """Rows whose label one word tells and nothing else does; no two alike."""
    rows = []
    for i in range(offset, offset + n):
        words = GOOD if i % 2 else BAD
        stars = "positive" if i % 2 else "negative"
        rows.append({"text": f"a {words[i // 2 % 3]} film , scene {i // 2}", "stars": stars})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.DictWriter(f, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return path


SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Real subsets of the eleven datasets, where they are at hand; they are no part of the project."""
