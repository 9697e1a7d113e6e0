"""Gemma 2: the norms."""

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Trainer, TrainingArguments

import apet

config = Gemma2Config(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    head_dim=8,
    num_key_value_heads=2,
)
model = Gemma2ForCausalLM(config)  # in earnest: Gemma2ForCausalLM.from_pretrained("google/gemma-2-2b")
handle = apet.attach(model, apet.plan(model, "ln-tuning"))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))
