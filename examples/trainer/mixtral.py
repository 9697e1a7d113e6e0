"""Mixtral: 600 entries of its experts alone."""

import torch
from transformers import MixtralConfig, MixtralForCausalLM, Trainer, TrainingArguments

import apet

config = MixtralConfig(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    num_key_value_heads=2,
    num_local_experts=4,
)
model = MixtralForCausalLM(config)  # in earnest: MixtralForCausalLM.from_pretrained("mistralai/Mixtral-8x7B-v0.1")
handle = apet.attach(model, apet.plan(model, "apet", budget=600, roles=["mlp.experts"]))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))
